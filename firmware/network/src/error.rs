/// temp
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The graph is not an int8 network of ours.
    #[error("{0}")]
    Graph(String),
    /// A kernel refused its parameters or the CPU lacks its instructions.
    #[error(transparent)]
    Kernel(#[from] resight_kernels::KernelError),
}
