"""Trains, exports and checks the bundles of docs/model-contract.md. In the data's order:

spec       what a model reads and how wide it is: the training configuration and the manifest's twin
features   events to numbers, by the contract                                    [numpy alone]
folder     a data set: clicks in any of the formats, labels, where the past ends
discover   a configuration for a data set that has none
clicks     clicks and the sessionizer's rows to customers' sessions              [standard library alone]
material   what a model may learn from: sessions and labels before the cut
fit        vocabulary and normalisation, from the clicks
dataset    customers to arrays
zoo        the models, all behind the same contract; one table names them        [torch]
train      a model, then its heads; keeps the run                                [torch]
graphs     weights to the four ONNX graphs, by hand                              [onnx]
golden     inputs and PyTorch's outputs that a bundle must reproduce             [torch]
export     run to bundle
check      what no bundle may leave with                                         [onnx, onnxruntime]

Of the sessions' autoencoder and the customer model over it: network, autoencoder, pretext, validate.
"""
