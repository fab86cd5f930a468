//! On which device each node of a graph runs. ONNX Runtime itself keeps computations of shapes on the CPU, whatever the
//! device, since kernels read sizes there; everything else that it puts there is a fall-back, and refused. Takes ONNX
//! bytes and what ONNX Runtime logs while it opens them, gives the nodes on the CPU. `[pure]`

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{self, Node};

/// ONNX Runtime's name of the CPU.
pub const CPU: &str = "CPUExecutionProvider";

/// The nodes that work on nothing but shapes and constants, as ONNX Runtime's log calls them. A name that a node of
/// another kind has, too, is left out.
pub fn shape_nodes(model: &[u8]) -> Result<BTreeSet<String>, String> {
    let (nodes, constants) = graph::nodes(model)?;
    let mut sizes: BTreeSet<&str> = BTreeSet::new();
    let (mut of_shapes, mut others) = (BTreeSet::new(), BTreeSet::new());
    for node in &nodes {
        let mut given = node.inputs.iter().map(String::as_str).filter(|name| !name.is_empty());
        let begins = matches!(node.operator.as_str(), "Shape" | "Size");
        let goes_on = given.clone().any(|name| sizes.contains(name))
            && given.all(|name| sizes.contains(name) || constants.contains(name));
        if begins || goes_on {
            sizes.extend(node.outputs.iter().map(String::as_str));
            of_shapes.insert(called(node));
        } else {
            others.insert(called(node));
        }
    }
    Ok(&of_shapes - &others)
}

/// As `VerifyEachNodeIsAssignedToAnEp` of ONNX Runtime writes it.
fn called(node: &Node) -> String {
    format!("{} ({})", node.operator, node.name)
}

/// What a session's log says of its nodes, as it comes in line by line.
#[derive(Debug, Default)]
pub struct Placement {
    /// By the provider's name.
    nodes: BTreeMap<String, Nodes>,
    /// Whose names come next.
    listing: Option<String>,
}

#[derive(Debug, Default)]
struct Nodes {
    count: usize,
    names: Vec<String>,
}

impl Placement {
    /// Takes any line of the session's log.
    pub fn line(&mut self, line: &str) {
        if let Some((provider, count)) = heading(line) {
            self.nodes.entry(provider.to_owned()).or_default().count += count;
            self.listing = Some(provider.to_owned());
            return;
        }
        let Some(nodes) = self.listing.as_ref().and_then(|provider| self.nodes.get_mut(provider)) else { return };
        match line.strip_prefix("  ") {
            Some(name) if nodes.names.len() < nodes.count => nodes.names.push(name.trim_end().to_owned()),
            Some(_) | None => self.listing = None,
        }
    }

    /// The nodes on the CPU, all of which must be among `allowed`; the error is a sentence that names those that are not.
    pub fn on_cpu(&self, allowed: &BTreeSet<String>) -> Result<Vec<String>, String> {
        if self.nodes.is_empty() {
            return Err("onnx runtime does not say where its nodes run".to_owned());
        }
        let Some(cpu) = self.nodes.get(CPU) else { return Ok(Vec::new()) };
        if cpu.names.len() < cpu.count {
            return Err(format!("{} of its nodes would run on the CPU", cpu.count));
        }
        let foreign: Vec<&str> = cpu.names.iter().filter(|name| !allowed.contains(*name)).map(String::as_str).collect();
        if foreign.is_empty() {
            return Ok(cpu.names.clone());
        }
        Err(format!("these nodes would run on the CPU: {}", foreign.join(", ")))
    }
}

/// ` All nodes placed on [P]. Number of nodes: 3` or ` Node(s) placed on [P]. Number of nodes: 3`.
fn heading(line: &str) -> Option<(&str, usize)> {
    let rest = line.trim_start();
    let rest = rest.strip_prefix("All nodes placed on [").or_else(|| rest.strip_prefix("Node(s) placed on ["))?;
    let (provider, rest) = rest.split_once("]. Number of nodes: ")?;
    Some((provider, rest.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::model::tests::{shipped_bundles, tiny_bundle};

    fn check(log: &str, allowed: &[&str], expected: Expect) {
        let mut placement = Placement::default();
        log.lines().for_each(|line| placement.line(line));
        let allowed = allowed.iter().map(|name| (*name).to_owned()).collect();
        expected.assert_eq(&match placement.on_cpu(&allowed) {
            Ok(names) => format!("fine, on the CPU: {names:?}"),
            Err(what) => what,
        });
    }

    #[test]
    fn what_is_on_the_cpu_must_be_there_by_nature() {
        let log = "Initializing session.\nNode placements\n Node(s) placed on [CUDAExecutionProvider]. Number of nodes: 2\n  \
                   Gemm (a)\n  Mul ()\n Node(s) placed on [CPUExecutionProvider]. Number of nodes: 2\n  Shape ()\n  \
                   ConstantOfShape ()\nDone\n  Gemm (not a node)\n";
        check(
            log,
            &["Shape ()", "ConstantOfShape ()"],
            expect![[r#"fine, on the CPU: ["Shape ()", "ConstantOfShape ()"]"#]],
        );
        check(log, &["Shape ()"], expect!["these nodes would run on the CPU: ConstantOfShape ()"]);
        check(log, &[], expect!["these nodes would run on the CPU: Shape (), ConstantOfShape ()"]);
        check(" All nodes placed on [CUDAExecutionProvider]. Number of nodes: 7", &[], expect!["fine, on the CPU: []"]);
        check(
            " All nodes placed on [CPUExecutionProvider]. Number of nodes: 7",
            &[],
            expect!["7 of its nodes would run on the CPU"],
        );
        check("Initializing session.", &[], expect!["onnx runtime does not say where its nodes run"]);
        check(
            " Node(s) placed on [CPUExecutionProvider]. Number of nodes: 2\n  Shape ()\nend\n",
            &["Shape ()"],
            expect!["2 of its nodes would run on the CPU"],
        );
    }

    #[test]
    fn shapes_are_found_in_the_shipped_graphs() {
        let mut found = BTreeSet::new();
        for bundle in shipped_bundles().into_iter().chain([tiny_bundle()]) {
            for entry in bundle.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
                if entry.extension().is_some_and(|extension| extension == "onnx") {
                    found.extend(shape_nodes(&std::fs::read(entry).unwrap()).unwrap());
                }
            }
        }
        let known = ["ConstantOfShape ()", "Shape ()"].map(str::to_owned);
        assert!(found.iter().all(|name| known.contains(name)), "{found:?}");
    }
}
