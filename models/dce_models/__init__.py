"""Trains, exports and checks the bundles of docs/model-contract.md. In the data's order:

spec       what a model reads and how wide it is: the training configuration and the manifest's twin
features   events to numbers, by the contract                                    [numpy alone]
folder     a data set: clicks in any of the formats, labels, where the past ends
clicks     clicks and the sessionizer's rows to customers' sessions              [standard library alone]
fit        vocabulary and normalisation, from the clicks
dataset    customers to arrays
network    the architecture                                                      [torch]
train      the two stages: sessions, then customers                              [torch]
validate   next-session retrieval beside its floors
graphs     weights to the four ONNX graphs, by hand                              [onnx]
golden     inputs and PyTorch's outputs that a bundle must reproduce             [torch]
export     run to bundle
check      what no bundle may leave with                                         [onnx, onnxruntime]
"""
