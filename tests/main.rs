//! The fast tests: no network, no broker, no clock to wait for. One binary, so that they link once.
