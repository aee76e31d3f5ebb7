use burn_flex::Flex;
use ff_spec::Clock;
use ff_spec::force_scatter::Inputs;
use ff_tables::{Entry, EntryFields, Evidence, Pass, PassOf, Versions};

use super::*;

/// What a call took is known to its plan alone.
#[test]
fn every_order_takes_its_own_entry() {
    // All pairs of nine atoms.
    let row_ptr: Vec<u32> = (0..=9).map(|i| 8 * i).collect();
    let sender: Vec<u32> = (0..9).flat_map(|i| (0..9).filter(move |j| *j != i)).collect();
    let edges = vec![1.0; 3 * sender.len()];
    let graph = Graph::<Flex>::upload(&row_ptr, &sender, &edges, Dtype::F64, &Default::default()).unwrap();
    let inputs = Inputs { row_ptr, sender, edge_vec: edges.clone(), edge_grad: edges, system_ptr: vec![0, 9] };
    let problem = inputs.problem("test");
    let device = Flex::device_id(&Default::default());
    let entry = |order: u8, edges| {
        let evidence = Evidence { rel_error: 1e-14, max_abs_error: 1e-14, cases: 3, seeds: vec![1, 2, 3] };
        let config = LaunchConfig::from([("edges_per_task", edges)]);
        let of = PassOf { device: &device.slug, kernel_hash: "hash", config: &config, dtype: Dtype::F64, order };
        let pass = Pass::record(of, evidence, 0).unwrap();
        Entry::new(EntryFields {
            key: TuneKey::new("gather", order, Dtype::F64, &problem),
            variant: "gather".to_owned(),
            problem: problem.clone(),
            config,
            median_ns: 1.0,
            spread_ns: 0.0,
            samples: 1,
            clock: Clock::Wall,
            driver: String::new(),
            default_median_ns: None,
            unfused_median_ns: None,
            ties: Vec::new(),
            pass,
        })
        .unwrap()
    };
    let versions = Versions { forgefield: "0".into(), burn: "0".into(), cubecl: "0".into() };
    let hash = ff_kernels::generated::FORCE_SCATTER_TEMPLATE_HASH;
    let mut table = Table::new(OP, device.clone(), versions, hash);
    table.insert(entry(0, 7)).unwrap();
    table.insert(entry(2, 9)).unwrap();
    let used = |reduction| {
        let options = ScatterOptions { variant: Variant { reduction }, tables: std::slice::from_ref(&table) };
        let system_ptr = Tensor::<Flex, 1, Int>::from_data([0, 9], &Default::default());
        let (_, plan) = call::<Flex>(&graph, system_ptr, &options, Dtype::F64).unwrap();
        plan.configs.clone().map(|config| config.get("edges_per_task").unwrap())
    };
    assert_eq!(used(Reduction::Gather), [7, 4096, 9], "the first backward has none, so its default");
    assert_eq!(used(Reduction::Atomic), [4096; 3]);
}
