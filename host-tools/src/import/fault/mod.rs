//! Why a file is refused, or one of its nodes. Each file here holds the causes of one subject, with their
//! messages; what a node or a file can be refused for is gathered in [`NodeFault`] and [`ModelFault`]. Nothing
//! here reads a network, so that whatever does can name the causes.

pub(super) mod arithmetic;
pub(super) mod attributes;
pub(super) mod convolutions;
pub(super) mod folding;
pub(super) mod functions;
pub(super) mod heads;
pub(super) mod image;
pub(super) mod inputs;
pub(super) mod model;
pub(super) mod node;
pub(super) mod normalisation;
pub(super) mod operators;
pub(super) mod outputs;
pub(super) mod parts;
pub(super) mod pools;
pub(super) mod protobuf;
pub(super) mod resizing;
pub(super) mod shapes;
pub(super) mod sparse;
pub(super) mod structure;
pub(super) mod window;

pub use self::model::ModelFault;
pub use self::node::NodeFault;
