//! What a configuration may cost, from counted FLOPs and bytes and from what a device is.

use ff_record::{Recorder, Target};
use ff_spec::fused_message::{FilterKind, Variant, cost};
use ff_spec::{DeviceId, Dtype, FusedMessage, LaunchConfig, Problem, RuntimeKind};

use crate::estimate::Estimator;
use crate::inspect::Footprint;
use crate::ops::order::UsedOrder;
use crate::options::Sizes;

/// The cost of a call, in units that are the same for all configurations of one variant on one problem; `None` where nothing
/// is known of it.
pub fn estimate(
    estimator: &Estimator,
    variant: &Variant,
    dtype: Dtype,
    problem: &Problem,
    config: &LaunchConfig,
) -> Option<f64> {
    match estimator.device.runtime {
        RuntimeKind::Host => host(&estimator.device, variant, dtype, problem, config),
        RuntimeKind::Cuda => on_cuda(estimator, variant, dtype, problem, config),
        RuntimeKind::Vulkan | RuntimeKind::Metal => None,
    }
}

/// By what a multiprocessor can keep under way: a kernel's registers and shared memory say how many blocks fit one, and
/// these how many bytes are being loaded at once and how many FMAs do not wait for each other.
fn on_cuda(
    estimator: &Estimator,
    variant: &Variant,
    dtype: Dtype,
    problem: &Problem,
    config: &LaunchConfig,
) -> Option<f64> {
    /// Cycles until a load from memory and an FMA are done, what a multiprocessor loads per cycle in bytes, and its FMAs.
    const LOAD_LATENCY: f64 = 500.0;
    const FMA_LATENCY: f64 = 4.0;
    const BYTES_PER_CYCLE: f64 = 16.0;
    const FMAS_PER_CYCLE: f64 = 128.0;
    let version = estimator.device.arch.strip_prefix("sm_")?.parse().ok()?;
    let (features, n_basis) = (problem.features.max(1) as usize, problem.n_basis.max(1) as usize);
    let sizes = Sizes { cutoff: 5.0, features, n_basis, hidden: problem.hidden.max(1) as usize, seed: 0 };
    let call = FusedMessage::recorded_call(variant, "h2", &sizes).ok()?;
    let recorder = Recorder::new(Target::Cuda(version));
    let kernels = FusedMessage::record(&recorder, variant, dtype, &call, config).ok()?;
    // Others clear what is added to.
    let kernel = kernels.into_iter().find(|kernel| kernel.name.starts_with("kernel"))?;
    let compiled = estimator.nvrtc.as_ref()?.compile(&kernel.text, version).ok()?;
    let footprint = Footprint::new(&compiled.log, &kernel, version).ok()?;
    let get = |name: &str| f64::from(config.get(name).unwrap_or(1));
    let (vector, unroll, channels) = (get("vector_width"), get("unroll"), get("channels_per_cube"));
    // A configuration of which no block fits does not run.
    let threads = f64::from(footprint.occupancy.filter(|o| o.blocks > 0)?.warps * 32);
    let counted = cost(variant, problem, dtype);
    // Units beyond the end of a row do the work of its last ones.
    let features = f64::from(problem.features).max(1.0);
    let padded = (features / channels).ceil() * channels / features;
    let passes = (features / channels).ceil();
    let busy = (threads * unroll * vector / (FMA_LATENCY * FMAS_PER_CYCLE)).min(1.0);
    let loading = (threads * vector * unroll * dtype.size() as f64 / (LOAD_LATENCY * BYTES_PER_CYCLE)).min(1.0);
    let fmas = (counted.message_flops as f64 * padded + counted.filter_flops as f64 * padded.max(1.0)) / 2.0;
    let spilled = f64::from(footprint.resources.spill_stores + footprint.resources.spill_loads);
    let bytes = counted.gathered_bytes as f64 * padded + spilled * problem.n_edges as f64 * passes;
    Some((fmas / FMAS_PER_CYCLE / busy).max(bytes / BYTES_PER_CYCLE / loading))
}

/// Cycles of one thread's share on a processor, by how the host kernel walks: tiles of edges, each passed over once per block of
/// channels.
fn host(device: &DeviceId, variant: &Variant, dtype: Dtype, problem: &Problem, config: &LaunchConfig) -> Option<f64> {
    /// Accumulators that fit the registers beside what else is in them.
    const REGISTERS: f64 = 12.0;
    /// Bytes per cycle from L2.
    const L2: f64 = 32.0;
    /// Cycles that a pass over a tile, an edge in a pass and a task cost besides what is counted.
    const PASS: f64 = 60.0;
    const EDGE: f64 = 8.0;
    const TASK: f64 = 3000.0;
    let get = |name: &str| config.get(name).map(f64::from);
    let (task, tile, block) = (get("edges_per_task")?, get("edges_per_tile")?, get("channel_block")?);
    let (size, features) = (dtype.size() as f64, f64::from(problem.features).max(1.0));
    let lanes = (f64::from(device.limits.plane_size) * 4.0 / size).max(1.0);
    let (edges, threads) = (problem.n_edges as f64, f64::from(device.threads.max(1)));
    if edges == 0.0 {
        return Some(0.0);
    }
    let parts = variant.message.parts() as f64;
    let (depth, shared) = match variant.filter {
        FilterKind::Linear => (f64::from(problem.n_basis), true),
        FilterKind::Mlp => (f64::from(problem.hidden), true),
        FilterKind::Tabulated => (f64::from(problem.n_basis), false),
    };
    let registers = (block / lanes).max(1.0);
    let passes = (features / block.max(lanes)).ceil();
    let counted = cost(variant, problem, dtype);
    let map = 2.0 * depth * parts * features * edges;
    let once = (counted.filter_flops as f64 - map).max(0.0) / (2.0 * lanes);
    // Edges that go through the linear map together share its loads.
    let together = if shared { (REGISTERS / (parts * registers)).floor().clamp(1.0, 4.0) } else { 1.0 };
    let fmas = depth * parts * registers;
    let loads = (fmas / together + depth) / 2.0;
    let l1 = f64::from(device.limits.shared_memory);
    let columns = tile * (depth + 10.0) * size;
    // Coefficients of a tile that is larger than L1 come from L2 in every pass.
    let spilled = if columns > l1 { depth * size / L2 } else { 0.0 };
    let message = counted.message_flops as f64 / edges / passes / (2.0 * lanes);
    let per_edge = fmas.max(loads) + spilled + message + EDGE;
    // The weights of a pass are loaded anew for each tile.
    let weights = if shared { depth * parts * registers * lanes * size / L2 } else { 0.0 };
    let tiles = (edges / tile.min(task)).ceil();
    // As the kernel cuts them: eight tasks at least, of 64 edges at least.
    let task = task.min((edges / 8.0).ceil().max(64.0));
    let tasks = (edges / task).ceil();
    let work = once + edges * passes * per_edge + tiles * passes * (PASS + weights) + tasks * TASK;
    // The last tasks leave threads with nothing to do.
    Some(work / threads + work / tasks * (1.0 - 1.0 / threads) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(n_atoms: u64) -> Problem {
        let name = String::new();
        Problem {
            name,
            n_atoms,
            n_edges: 50 * n_atoms,
            max_degree: 60,
            features: 128,
            n_basis: 20,
            ..Problem::default()
        }
    }

    #[test]
    fn more_work_costs_more_and_idle_threads_cost() {
        let host = crate::runtimes::of(RuntimeKind::Host).unwrap_or_else(|e| panic!("{e}"));
        let estimator = Estimator::new(&DeviceId { threads: 8, ..host.device().clone() });
        let variant: Variant = "painn_linear_gaussian_cosine_receiver".parse().unwrap_or_else(|e| panic!("{e}"));
        let of = |n_atoms, edges_per_task, edges_per_tile| {
            let config = LaunchConfig::from([
                ("edges_per_task", edges_per_task),
                ("edges_per_tile", edges_per_tile),
                ("channel_block", 32),
            ]);
            estimate(&estimator, &variant, Dtype::F32, &problem(n_atoms), &config).expect("known")
        };
        assert!(of(2000, 512, 64) > 1.5 * of(1000, 512, 64));
        assert!(of(1000, 50_000, 64) > of(1000, 512, 64), "as few tasks as threads");
        assert!(of(1000, 512, 1) > of(1000, 512, 64), "a tile for each edge");
        let unset = LaunchConfig::default();
        assert_eq!(estimate(&estimator, &variant, Dtype::F32, &problem(10), &unset), None);
    }
}
