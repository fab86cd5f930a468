"""A model that guards the customer's state: counts beside a learned vector, a head over likelihood ratios, and a gate
by the same head that keeps a stranger's session out. Recipe, figures and limits: ../../guard.md. In the data's order:

settings   how it is trained, with defaults for any data set
layout     where things lie in a session and in a state
words      events to the ids that are counted
gather     clicks to a sample of customers: columns, counts, labels        [torch]
sample     sessions as counts                                              [torch]
ops        one way to write a formula, two to run it: PyTorch and ONNX     [torch, onnx]
encoder    a session's vector                                              [torch]
population the other customers as constants                                [torch]
features   what tells a session apart from its customer's own
cell       head, gate, how a session goes into the state, what is read
worlds     encoder and population without a group of customers             [torch]
simulate   intrusions without labels                                       [torch]
head       a small net over the features                                   [torch]
trainer    all of it together; calibration                                 [torch]
graphs     the ONNX graphs                                                 [onnx]
member     run and parts, for the zoo                                      [torch]
"""
