use burn_flex::Flex;
use ff_spec::Clock;
use ff_spec::vector_norm::Inputs;
use ff_tables::{Entry, EntryFields, Evidence, Pass, PassOf, Versions};

use super::*;

#[test]
fn every_order_takes_its_own_entry() {
    let device = Flex::device_id(&Default::default());
    let inputs = Inputs { n_atoms: 5, features: 12, vectors: vec![0.5; 180], epsilon: 1e-8 };
    let problem = inputs.problem("test");
    let entry = |order: u8, atoms| {
        let evidence = Evidence { rel_error: 1e-7, max_abs_error: 1e-7, cases: 3, seeds: vec![1, 2, 3] };
        let config = LaunchConfig::from([("atoms_per_task", atoms)]);
        let of = PassOf { device: &device.slug, kernel_hash: "hash", config: &config, dtype: Dtype::F32, order };
        let pass = Pass::record(of, evidence, 0).unwrap();
        Entry::new(EntryFields {
            key: TuneKey::new("channelwise", order, Dtype::F32, &problem),
            variant: "channelwise".to_owned(),
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
    let hash = ff_kernels::generated::VECTOR_NORM_TEMPLATE_HASH;
    let mut table = Table::new(OP, device.clone(), versions, hash);
    table.insert(entry(0, 7)).unwrap();
    table.insert(entry(2, 9)).unwrap();
    let vectors: Vec<f32> = (0..180).map(|i| (i as f32).sin()).collect();
    let vectors = Tensor::<Flex, 1>::from_floats(&vectors[..], &Default::default()).reshape([5, 3, 12]);
    let tables = std::slice::from_ref(&table);
    let used = plan(&vectors, 1e-8, tables).unwrap().configs.clone();
    let used = used.map(|config| config.get("atoms_per_task").unwrap());
    assert_eq!(used, [7, 64, 9], "the first backward has none, so its default");
    let numbers = |norm: Tensor<Flex, 2>| norm.into_data().to_vec::<f32>().unwrap();
    let found = numbers(vector_norm_with(vectors.clone(), 1e-8, tables).unwrap());
    assert_eq!(found, numbers(vector_norm(vectors, 1e-8).unwrap()), "tasks do not change a bit");
}
