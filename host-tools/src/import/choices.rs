//! What exports of segmentation networks end in beyond their maps: the class of each pixel instead of the
//! scores of the classes. The choice is the decoder's, and the file's is taken away before it is read.

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

use super::plain::constants;
use super::tensor::{self, Constant};

/// Operators that change no more of a choice than its type or dimensions.
const KEEPING: [&str; 4] = ["Cast", "Identity", "Squeeze", "Unsqueeze"];

/// Most operators behind a choice.
const MOST: usize = 8;

/// Makes outputs that say the class of each pixel outputs of what it is chosen by: `ArgMax` over an axis
/// becomes `Softmax` over it, and a sigmoid that is compared with a half the sigmoid. Outputs of other names,
/// and of what is anything else, stay.
pub(super) fn leave_out(graph: &mut GraphProto, outputs: &[String]) {
    for output in outputs {
        let Some(chosen) = choice(graph, output) else { continue };
        let scores = graph.node[chosen].clone();
        let Some(node) = by(graph, &scores) else { continue };
        log::info!("the output `{output}` is a choice of classes, which is left to the decoder");
        // What made the output is read no more.
        if let Some(last) = maker(graph, output) {
            graph.node[last].output[0] = format!("{output}_chosen");
        }
        graph.node.push(NodeProto { output: vec![output.clone()], ..node });
    }
}

/// The node that makes a tensor.
fn maker(graph: &GraphProto, name: &str) -> Option<usize> {
    graph.node.iter().position(|node| node.output.first().is_some_and(|output| output == name))
}

/// The node that chooses what an output is.
fn choice(graph: &GraphProto, output: &str) -> Option<usize> {
    let mut name = output.to_owned();
    for _ in 0..MOST {
        let index = maker(graph, &name)?;
        let node = &graph.node[index];
        match node.op_type.as_str() {
            "ArgMax" | "Greater" | "GreaterOrEqual" => return Some(index),
            operator if KEEPING.contains(&operator) => name.clone_from(node.input.first()?),
            _ => return None,
        }
    }
    None
}

/// The node whose result is chosen by, without its output.
fn by(graph: &GraphProto, choice: &NodeProto) -> Option<NodeProto> {
    let scores = choice.input.first()?;
    let before = maker(graph, scores).map(|index| &graph.node[index]);
    if choice.op_type == "ArgMax" {
        let axis =
            |node: &NodeProto| node.attribute.iter().find(|attribute| attribute.name == "axis").cloned();
        // Its own axis is 0 where nothing is said, that of a softmax another.
        let axis_of_choice = axis(choice)?;
        // The largest is the largest before a softmax too.
        let is_softmax = before.is_some_and(|before| {
            ["Softmax", "LogSoftmax"].contains(&before.op_type.as_str())
                && axis(before).is_some_and(|axis| axis.i == axis_of_choice.i)
        });
        let input = before.filter(|_| is_softmax).and_then(|before| before.input.first()).unwrap_or(scores);
        return Some(NodeProto {
            op_type: "Softmax".into(),
            name: choice.name.clone(),
            input: vec![input.clone()],
            attribute: vec![AttributeProto { name: "axis".into(), ..axis_of_choice }],
            ..NodeProto::default()
        });
    }
    let before = before.filter(|before| before.op_type == "Sigmoid")?;
    let half = constants(graph);
    let half = half.get(choice.input.get(1)?.as_str())?;
    let Ok(Constant::Float(half)) = tensor::read(half) else { return None };
    (half.data == [0.5]).then(|| NodeProto {
        op_type: "Sigmoid".into(),
        name: choice.name.clone(),
        input: before.input.clone(),
        ..NodeProto::default()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tract_onnx::pb::attribute_proto::AttributeType;

    use super::super::array::Array;
    use super::*;

    fn node(operator: &str, input: &[&str], output: &str, axis: Option<i64>) -> NodeProto {
        let axis = axis.map(|i| AttributeProto {
            name: "axis".into(),
            r#type: AttributeType::Int as i32,
            i,
            ..AttributeProto::default()
        });
        NodeProto {
            op_type: operator.into(),
            input: input.iter().map(|&name| name.into()).collect(),
            output: vec![output.into()],
            attribute: axis.into_iter().collect(),
            ..NodeProto::default()
        }
    }

    /// What makes `out`: operator, inputs and axis.
    fn ends(nodes: Vec<NodeProto>) -> (String, Vec<String>, Option<i64>) {
        let half = tensor::to_proto("half", &Array { dims: vec![], data: vec![0.5] });
        let third = tensor::to_proto("third", &Array { dims: vec![], data: vec![0.3] });
        let mut graph = GraphProto { node: nodes, initializer: vec![half, third], ..GraphProto::default() };
        leave_out(&mut graph, &["out".into()]);
        let makers: HashMap<&str, usize> =
            graph.node.iter().enumerate().map(|(index, node)| (node.output[0].as_str(), index)).collect();
        assert_eq!(makers.len(), graph.node.len(), "each result is made once");
        let last = &graph.node[makers["out"]];
        (last.op_type.clone(), last.input.clone(), last.attribute.first().map(|axis| axis.i))
    }

    #[test]
    fn choices_become_what_they_are_made_by() {
        let softmax = |input: &str| ("Softmax".to_owned(), vec![input.to_owned()], Some(1));
        let sigmoid = ("Sigmoid".to_owned(), vec!["maps".to_owned()], None);
        let cases = [
            (vec![node("ArgMax", &["maps"], "out", Some(1))], softmax("maps")),
            (
                vec![
                    node("LogSoftmax", &["maps"], "p", Some(1)),
                    node("ArgMax", &["p"], "a", Some(1)),
                    node("Cast", &["a"], "b", None),
                    node("Squeeze", &["b"], "out", None),
                ],
                softmax("maps"),
            ),
            // Another axis than that of the choice.
            (
                vec![node("Softmax", &["maps"], "p", Some(2)), node("ArgMax", &["p"], "out", Some(1))],
                softmax("p"),
            ),
            (
                vec![
                    node("Sigmoid", &["maps"], "p", None),
                    node("Greater", &["p", "half"], "a", None),
                    node("Cast", &["a"], "out", None),
                ],
                sigmoid,
            ),
        ];
        for (nodes, expected) in cases {
            assert_eq!(ends(nodes), expected);
        }
    }

    #[test]
    fn anything_else_stays() {
        let greater = |limit: &str| {
            vec![node("Sigmoid", &["maps"], "p", None), node("Greater", &["p", limit], "out", None)]
        };
        assert_eq!(ends(greater("third")).0, "Greater");
        assert_eq!(ends(vec![node("Greater", &["maps", "half"], "out", None)]).0, "Greater");
        assert_eq!(ends(vec![node("ArgMax", &["maps"], "out", None)]).0, "ArgMax");
        assert_eq!(ends(vec![node("Conv", &["maps"], "out", None)]).0, "Conv");
        let circle = vec![node("Cast", &["out"], "out", None)];
        assert_eq!(ends(circle).0, "Cast");
    }
}
