/// Launch parameters of the host kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Edges of one task; a receiver's row is not cut by `receiver`.
    pub edges_per_task: usize,
    /// Edges whose basis values are computed together.
    pub edges_per_tile: usize,
    /// Features of one pass over a tile: rounded to 1, 2 or 4 registers.
    pub channel_block: usize,
}
