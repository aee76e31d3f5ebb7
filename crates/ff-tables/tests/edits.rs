//! An entry that was edited is refused, whatever the edit.

use std::path::Path;

use ff_spec::{Atomics, Clock, DeviceId, Dtype, LaunchConfig, Limits, Problem, RuntimeKind, TuneKey};
use ff_tables::{Entry, EntryFields, Evidence, Pass, PassOf, Table, TableError, Tie, Versions};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

const SLUG: &str = "gpu";

fn entry(n_atoms: u64, median_ns: f64, rel_error: f64, value: u32, ties: usize) -> Entry {
    let problem = Problem {
        name: "water \\ \"ice\"".to_owned(),
        n_atoms,
        n_edges: n_atoms * 50 + 1,
        max_degree: 60,
        features: 128,
        n_basis: 20,
        ..Problem::default()
    };
    let config = LaunchConfig::from([("edges_per_tile", value), ("unroll", 2)]);
    let evidence = Evidence { rel_error, max_abs_error: 1e-6, cases: 12, seeds: vec![0, 1, 2, 7] };
    let of = PassOf { device: SLUG, kernel_hash: "abc", config: &config, dtype: Dtype::F32, order: 0 };
    let tie = |n: usize| Tie {
        config: LaunchConfig::from([("edges_per_tile", value), ("unroll", 4 + n as u32)]),
        median_ns,
        spread_ns: 0.0,
    };
    let fields = EntryFields {
        key: TuneKey::new("painn_linear_receiver", 0, Dtype::F32, &problem),
        variant: "painn_linear_gaussian_cosine_receiver".to_owned(),
        pass: Pass::record(of, evidence, 1_700_000_000).expect("within tolerance"),
        problem,
        config,
        median_ns,
        spread_ns: 10.5,
        samples: 20,
        clock: Clock::Device,
        driver: String::new(),
        default_median_ns: Some(2.0 * median_ns),
        unfused_median_ns: None,
        ties: (0..ties).map(tie).collect(),
    };
    Entry::new(fields).expect("consistent")
}

fn table(entries: [Entry; 2]) -> Value {
    let device = DeviceId {
        runtime: RuntimeKind::Vulkan,
        name: SLUG.to_owned(),
        slug: SLUG.to_owned(),
        arch: "gen".to_owned(),
        driver: "1.0".to_owned(),
        software: false,
        threads: 0,
        limits: Limits { max_units_per_cube: 1024, shared_memory: 32768, plane_size: 32 },
        atomics: Atomics::default(),
        f64: true,
    };
    let versions = Versions { forgefield: "0.1.0".into(), burn: "0.21.0".into(), cubecl: "0.10.0".into() };
    let mut table = Table::new("fused_message", device, versions, "hash");
    entries.into_iter().for_each(|entry| table.insert(entry).expect("of this device"));
    serde_json::to_value(table).expect("plain data")
}

/// The place of every value of a document below `place`.
fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(values) => values.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in inner {
        let place = format!("{place}/{name}");
        places(value, &place, found);
        found.push(place);
    }
}

/// What an edit does to a value.
#[derive(Clone, Debug)]
enum Edit {
    /// Another scalar of the same kind, by a little or by much.
    Change { by: i32, text: String },
    /// Another kind of value.
    Replace(Value),
    /// The key or the element goes.
    Remove,
    /// The value of a key moves under another; an element stands twice.
    Double(String),
}

fn edits() -> impl Strategy<Value = Edit> {
    let other =
        prop::sample::select(vec![Value::Null, json!(true), json!(0), json!(""), json!([]), json!({}), json!([1])]);
    prop_oneof![
        4 => (any::<i32>(), "[a-z0-9\\\\\" ]{0,6}").prop_map(|(by, text)| Edit::Change { by, text }),
        2 => other.prop_map(Edit::Replace),
        2 => Just(Edit::Remove),
        1 => "[a-z]{1,5}".prop_map(Edit::Double),
    ]
}

fn edit(document: &mut Value, place: &str, edit: &Edit) {
    let (parent, name) = place.rsplit_once('/').expect("below the root");
    match edit {
        Edit::Change { by, text } => {
            let value = document.pointer_mut(place).expect("there");
            *value = match &*value {
                Value::Number(n) if n.is_u64() => json!(n.as_u64().unwrap_or(0) ^ u64::from(by.unsigned_abs())),
                // The next number that there is counts as well as any other.
                Value::Number(n) if *by % 2 == 0 => json!(n.as_f64().unwrap_or(0.0).next_up()),
                Value::Number(n) => json!(n.as_f64().unwrap_or(0.0) * (1.0 + f64::from(*by) / 1e6)),
                Value::Bool(b) => json!(!b),
                Value::String(s) => json!(format!("{s}{text}")),
                Value::Null => json!(f64::from(by.unsigned_abs()) + 0.5),
                whole => whole.clone(),
            };
        }
        Edit::Replace(other) => *document.pointer_mut(place).expect("there") = other.clone(),
        Edit::Remove => match document.pointer_mut(parent).expect("there") {
            Value::Object(map) => drop(map.shift_remove(name)),
            Value::Array(values) => drop(values.remove(name.parse().expect("an index"))),
            _ => {}
        },
        Edit::Double(other) => match document.pointer_mut(parent).expect("there") {
            Value::Object(map) => {
                let moved = |(key, value)| if key == name { (other.clone(), value) } else { (key, value) };
                *map = std::mem::take(map).into_iter().map(moved).collect::<Map<_, _>>();
            }
            Value::Array(values) => values.push(values[name.parse::<usize>().expect("an index")].clone()),
            _ => {}
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_single_edit_is_caught(
        (n_atoms, median_ns, rel_error) in (1_u64..100_000, 1.0..1e9, 0.0..1e-5),
        (value, ties) in (1_u32..64, 0_usize..3),
        (which, place, change) in (0_usize..2, any::<Index>(), edits()),
    ) {
        let before = table([
            entry(n_atoms, median_ns, rel_error, value, ties),
            entry(n_atoms * 16, median_ns, rel_error, value, ties),
        ]);
        let path = Path::new("t.json");
        let whole = Table::parse(&before.to_string(), path).expect("as it was written");
        let mut all = Vec::new();
        places(&before["entries"][which], &format!("/entries/{which}"), &mut all);
        let place = &all[place.index(all.len())];
        let mut after = before.clone();
        edit(&mut after, place, &change);
        prop_assume!(after != before);
        let text = serde_json::to_string_pretty(&after).expect("plain data");
        prop_assert!(Table::parse(&text, path).is_err(), "{place}: {change:?}");
        // The other entry is read as before, and the edited one is named.
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("t.json");
        std::fs::write(&file, text).expect("writable");
        let (rest, errors) = Table::salvage(&file).expect("a table still");
        let named = matches!(&errors[..], [TableError::Entry { entry, .. }] if *entry == which);
        prop_assert!(named, "{place}: {errors:?}");
        prop_assert_eq!(rest.entries(), &whole.entries()[1 - which..2 - which]);
    }
}
