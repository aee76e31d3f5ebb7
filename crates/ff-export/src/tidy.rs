//! Tidy tables: one row per sample, columns named with their unit.

use std::collections::BTreeSet;

use ff_spec::Problem;
use ff_tune::{Record, Times};

use crate::ExportError;
use crate::table::{self, Cells, Column};

/// A row: a record, the round and the place of one of its samples, and that sample, ns.
struct Row<'a> {
    record: &'a Record,
    round: Option<u64>,
    sample: Option<(u64, u64)>,
}

/// A record without samples has one row without a time, so that failures are there too.
fn rows(records: &[Record]) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for record in records {
        if record.samples_ns.is_empty() {
            rows.push(Row { record, round: None, sample: None });
        }
        let mut rounds = record.blocks.iter().enumerate().flat_map(|(i, n)| std::iter::repeat_n(i as u64, *n as usize));
        for (place, ns) in record.samples_ns.iter().enumerate() {
            rows.push(Row { record, round: rounds.next(), sample: Some((place as u64, *ns)) });
        }
    }
    rows
}

fn columns(records: &[Record]) -> Vec<Column> {
    let rows = rows(records);
    let mut columns = Vec::new();
    let mut add = |name: &str, cells: Cells| columns.push(Column { name: name.to_owned(), cells });
    let text = |get: &dyn Fn(&Record) -> String| Cells::Text(rows.iter().map(|r| Some(get(r.record))).collect());
    let count = |get: &dyn Fn(&Record) -> u64| Cells::Count(rows.iter().map(|r| Some(get(r.record))).collect());
    add("op", text(&|r| r.op.clone()));
    add("order", count(&|r| r.order.into()));
    add("variant", text(&|r| r.variant.clone()));
    add("kernel_hash", text(&|r| r.kernel_hash.clone()));
    add("dtype", text(&|r| r.dtype.to_string()));
    add("problem", text(&|r| r.problem.name.clone()));
    // The shared ones even of no records.
    let shared = Problem::default();
    let mut axes: Vec<&str> = shared.sizes().map(|(axis, _)| axis).collect();
    let own: BTreeSet<&String> = records.iter().flat_map(|r| r.problem.axes.keys()).collect();
    axes.extend(own.into_iter().map(String::as_str));
    for axis in axes {
        add(axis, Cells::Count(rows.iter().map(|r| r.record.problem.get(axis)).collect()));
    }
    add("runtime", text(&|r| r.device.runtime.to_string()));
    add("device", text(&|r| r.device.slug.clone()));
    add("driver", text(&|r| r.device.driver.clone()));
    add("threads", count(&|r| r.device.threads.into()));
    add("software", Cells::Truth(rows.iter().map(|r| Some(r.record.device.software)).collect()));
    add("compiler", text(&|r| r.compiler.clone()));
    add("clock", text(&|r| word(&r.clock)));
    add("stage", text(&|r| word(&r.stage)));
    let names: BTreeSet<&String> = records.iter().flat_map(|r| r.config.0.keys()).collect();
    for name in names {
        let values = rows.iter().map(|r| r.record.config.get(name).map(u64::from));
        add(&format!("config_{name}"), Cells::Count(values.collect()));
    }
    add("verdict", text(&|r| r.verdict.to_string()));
    add("reason", Cells::Text(rows.iter().map(|r| r.record.reason.clone()).collect()));
    let error = |get: &dyn Fn(&ff_tables::Evidence) -> f64| {
        Cells::Number(rows.iter().map(|r| r.record.evidence.as_ref().map(get)).collect())
    };
    add("rel_error", error(&|e| e.rel_error));
    add("max_abs_error", error(&|e| e.max_abs_error));
    for (name, get) in [
        ("compile_ns", (|t| t.compile_ns) as fn(&Times) -> u64),
        ("gate_ns", |t| t.gate_ns),
        ("benchmark_ns", |t| t.benchmark_ns),
        ("strategy_ns", |t| t.strategy_ns),
        ("framework_ns", |t| t.framework_ns),
    ] {
        add(name, Cells::Count(rows.iter().map(|r| r.record.times.as_ref().map(get)).collect()));
    }
    add("seed", count(&|r| r.seed));
    add("unix_time_s", count(&|r| r.unix_time));
    add("round", Cells::Count(rows.iter().map(|r| r.round).collect()));
    add("sample", Cells::Count(rows.iter().map(|r| r.sample.map(|(place, _)| place)).collect()));
    add("time_ns", Cells::Count(rows.iter().map(|r| r.sample.map(|(_, ns)| ns)).collect()));
    columns
}

/// The name of a plain variant, as records spell it.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// All records as CSV with a header. What there is nothing to say of is empty.
///
/// # Errors
/// [`ExportError`].
pub fn csv(records: &[Record]) -> Result<Vec<u8>, ExportError> {
    table::csv(&columns(records))
}

/// All records as Parquet, one row group, compressed with Snappy.
///
/// # Errors
/// [`ExportError`].
pub fn parquet(records: &[Record]) -> Result<Vec<u8>, ExportError> {
    table::parquet("samples", &columns(records))
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;
    use crate::testing::records;

    /// One row per sample, and one per record without any.
    fn expected(records: &[Record]) -> usize {
        records.iter().map(|r| r.samples_ns.len().max(1)).sum()
    }

    #[test]
    fn csv_has_every_sample() {
        let records = records();
        let bytes = csv(&records).expect("fits");
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let header: Vec<String> = reader.headers().expect("a header").iter().map(str::to_owned).collect();
        let place = |name: &str| header.iter().position(|h| h == name).expect("a column");
        let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("rows");
        assert_eq!(rows.len(), expected(&records));
        let times: Vec<u64> = rows.iter().filter_map(|r| r[place("time_ns")].parse().ok()).collect();
        assert_eq!(times, records.iter().flat_map(|r| r.samples_ns.clone()).collect::<Vec<_>>());
        let failed: Vec<_> = rows.iter().filter(|r| &r[place("verdict")] == "constraint").collect();
        assert_eq!((failed.len(), &failed[0][place("time_ns")]), (1, ""));
        assert_eq!(&failed[0][place("reason")], "too many units, \"quoted\"");
        assert_eq!((&rows[0][place("config_unroll")], &rows[0][place("round")]), ("1", "0"));
        assert!(matches!(csv(&[]), Err(ExportError::Empty)));
    }

    #[test]
    fn parquet_has_what_csv_has() {
        let records = records();
        let (table, bytes) = (csv(&records).expect("fits"), parquet(&records).expect("fits"));
        let reader = SerializedFileReader::new(parquet_bytes(bytes)).expect("Parquet");
        assert_eq!(reader.metadata().file_metadata().num_rows() as usize, expected(&records));
        let mut csv = csv::Reader::from_reader(table.as_slice());
        let header = csv.headers().expect("a header").clone();
        for (row, line) in reader.get_row_iter(None).expect("rows").zip(csv.records()) {
            let (row, line) = (row.expect("a row"), line.expect("a row"));
            for ((name, field), (column, text)) in row.get_column_iter().zip(header.iter().zip(line.iter())) {
                assert_eq!(name, column);
                match field {
                    Field::Null => assert_eq!(text, ""),
                    Field::Str(found) => assert_eq!(found, text),
                    Field::ULong(found) => assert_eq!(found.to_string(), text),
                    Field::Double(found) => assert_eq!(found.to_string(), text),
                    Field::Bool(found) => assert_eq!(found.to_string(), text),
                    other => panic!("{name} is {other}"),
                }
            }
        }
    }

    fn parquet_bytes(bytes: Vec<u8>) -> bytes::Bytes {
        bytes.into()
    }
}
