//! What an ONNX file says before it runs: the operators and opsets that the contract forbids. ONNX Runtime tells neither,
//! and only part of them show in a test of the bits. Reads the few protobuf fields that it needs. `[pure]`

use std::collections::BTreeSet;

/// A logarithm, sine, cosine or softplus changes a row's last bit with its place in the batch on CPU; control flow shuts
/// out CUDA graphs; randomness shuts out replay. What else depends on the other rows is caught by the bits.
const FORBIDDEN: [&str; 13] = [
    "Log",
    "Sin",
    "Cos",
    "Softplus",
    "If",
    "Loop",
    "Scan",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
];

/// Checks a model file against the contract; the error is a sentence about it.
pub fn check(model: &[u8], opset: u32) -> Result<(), String> {
    let mut opsets = Vec::new();
    let mut graphs = 0;
    for field in Fields(model) {
        match field? {
            (7, Value::Bytes(graph)) => {
                graphs += 1;
                check_graph(graph)?;
            }
            (8, Value::Bytes(import)) => opsets.push(opset_import(import)?),
            (25, _) => return Err("has functions of its own, which the contract does not allow".to_owned()),
            _ => {}
        }
    }
    if graphs != 1 {
        return Err("is no ONNX model: it has no graph".to_owned());
    }
    for (domain, version) in opsets {
        if !matches!(domain.as_str(), "" | "ai.onnx") {
            return Err(format!("imports operators of the domain {domain}; only ONNX's own are allowed"));
        }
        if version != u64::from(opset) {
            return Err(format!("has opset {version}, the manifest says {opset}"));
        }
    }
    Ok(())
}

/// One operation of a graph, as far as it says what it computes with.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) operator: String,
    pub(super) name: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
}

/// The nodes in the file's order, which is that of computing, and the names of the constants.
pub(super) fn nodes(model: &[u8]) -> Result<(Vec<Node>, BTreeSet<String>), String> {
    let (mut nodes, mut constants) = (Vec::new(), BTreeSet::new());
    for field in Fields(model) {
        let (7, Value::Bytes(graph)) = field? else { continue };
        for field in Fields(graph) {
            match field? {
                (1, Value::Bytes(bytes)) => {
                    let node = node(bytes)?;
                    if node.operator == "Constant" {
                        constants.extend(node.outputs.iter().cloned());
                    }
                    nodes.push(node);
                }
                (5, Value::Bytes(tensor)) => {
                    for field in Fields(tensor) {
                        if let (8, Value::Bytes(name)) = field? {
                            constants.insert(text(name)?);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok((nodes, constants))
}

fn node(bytes: &[u8]) -> Result<Node, String> {
    let mut node = Node::default();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(name)) => node.inputs.push(text(name)?),
            (2, Value::Bytes(name)) => node.outputs.push(text(name)?),
            (3, Value::Bytes(name)) => node.name = text(name)?,
            (4, Value::Bytes(name)) => node.operator = text(name)?,
            _ => {}
        }
    }
    Ok(node)
}

fn check_graph(graph: &[u8]) -> Result<(), String> {
    for field in Fields(graph) {
        if let (1, Value::Bytes(node)) = field? {
            check_node(node)?;
        }
    }
    Ok(())
}

fn check_node(node: &[u8]) -> Result<(), String> {
    let mut operator = String::new();
    let (mut linear_before_reset, mut layout) = (0, 0);
    for field in Fields(node) {
        match field? {
            (4, Value::Bytes(name)) => operator = text(name)?,
            (5, Value::Bytes(attribute)) => match integer_attribute(attribute)? {
                (name, value) if name == "linear_before_reset" => linear_before_reset = value,
                (name, value) if name == "layout" => layout = value,
                _ => {}
            },
            _ => {}
        }
    }
    if FORBIDDEN.contains(&operator.as_str()) {
        return Err(format!("has the operator {operator}, which the contract forbids"));
    }
    if matches!(operator.as_str(), "GRU" | "LSTM" | "RNN") && layout != 0 {
        return Err(format!("has a {operator} with layout {layout}, must be 0"));
    }
    if operator == "GRU" && linear_before_reset != 1 {
        return Err("has a GRU with linear_before_reset = 0, must be 1".to_owned());
    }
    Ok(())
}

fn integer_attribute(attribute: &[u8]) -> Result<(String, u64), String> {
    let (mut name, mut value) = (String::new(), 0);
    for field in Fields(attribute) {
        match field? {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (3, Value::Number(number)) => value = number,
            _ => {}
        }
    }
    Ok((name, value))
}

fn opset_import(import: &[u8]) -> Result<(String, u64), String> {
    let (mut domain, mut version) = (String::new(), 0);
    for field in Fields(import) {
        match field? {
            (1, Value::Bytes(bytes)) => domain = text(bytes)?,
            (2, Value::Number(number)) => version = number,
            _ => {}
        }
    }
    Ok((domain, version))
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| NO_MODEL.to_owned())
}

const NO_MODEL: &str = "is no ONNX model: its bytes are no protobuf";

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// 32 and 64 bits wide ones, which nothing here needs.
    Fixed,
}

/// The fields of a protobuf message: number and value.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or_else(|| NO_MODEL.to_owned());
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
        let field = |(number, bytes): &(u8, &[u8])| {
            let len = u8::try_from(bytes.len()).unwrap();
            [&[number << 3 | 2, len], *bytes].concat()
        };
        fields.iter().flat_map(field).collect()
    }

    fn attribute(name: &str, value: u8) -> Vec<u8> {
        [message(&[(1, name.as_bytes())]), vec![3 << 3, value]].concat()
    }

    fn model(opset: u8, operator: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes: Vec<(u8, &[u8])> = attributes.iter().map(|attribute| (5, attribute.as_slice())).collect();
        let node = message(&[vec![(4, operator.as_bytes())], attributes].concat());
        message(&[(8, &[2 << 3, opset]), (7, &message(&[(1, &node)]))])
    }

    #[test]
    fn good_operators_pass() {
        assert_eq!(check(&model(17, "Gemm", &[attribute("transB", 1)]), 17), Ok(()));
        assert_eq!(check(&model(20, "GRU", &[attribute("linear_before_reset", 1)]), 20), Ok(()));
    }

    #[test]
    fn what_the_contract_forbids_is_named() {
        let refused = |model: &[u8]| check(model, 17).unwrap_err();
        assert_eq!(refused(&model(17, "Log", &[])), "has the operator Log, which the contract forbids");
        assert_eq!(refused(&model(18, "Gemm", &[])), "has opset 18, the manifest says 17");
        assert_eq!(refused(&model(17, "GRU", &[])), "has a GRU with linear_before_reset = 0, must be 1");
        let turned = [attribute("linear_before_reset", 1), attribute("layout", 1)];
        assert_eq!(refused(&model(17, "GRU", &turned)), "has a GRU with layout 1, must be 0");
        let foreign = message(&[(8, &message(&[(1, b"com.microsoft")])), (7, &[])]);
        let expected = "imports operators of the domain com.microsoft; only ONNX's own are allowed";
        assert_eq!(refused(&foreign), expected);
        let functions = [model(17, "Gemm", &[]), vec![0xca, 0x01, 0]].concat();
        assert_eq!(refused(&functions), "has functions of its own, which the contract does not allow");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(
            mut bytes in prop::collection::vec(any::<u8>(), 0..60),
            place in 0..200_usize,
            byte: u8,
        ) {
            drop(check(&bytes, 17));
            let mut good = model(17, "GRU", &[attribute("linear_before_reset", 1), attribute("layout", 0)]);
            let place = place % good.len();
            good[place] = byte;
            drop(check(&good, 17));
            drop(nodes(&good));
            bytes.splice(0..0, good);
            drop(check(&bytes, 17));
        }
    }

    #[test]
    fn what_is_no_model_is_refused() {
        for bytes in [&b""[..], b"hello, world", &[0xff; 40], &[0x3a, 0x7f], b"\x0f"] {
            assert!(check(bytes, 17).unwrap_err().starts_with("is no ONNX model"), "{bytes:?}");
        }
    }
}
