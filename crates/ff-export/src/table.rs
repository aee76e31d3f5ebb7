//! Columns of any table, as CSV and as Parquet.

use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type;

use crate::ExportError;

/// The cells of a column; `None` where there is nothing to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Cells {
    /// Text.
    Text(Vec<Option<String>>),
    /// Whole numbers.
    Count(Vec<Option<u64>>),
    /// Real numbers.
    Number(Vec<Option<f64>>),
    /// Yes or no.
    Truth(Vec<Option<bool>>),
}

impl Cells {
    fn len(&self) -> usize {
        match self {
            Cells::Text(cells) => cells.len(),
            Cells::Count(cells) => cells.len(),
            Cells::Number(cells) => cells.len(),
            Cells::Truth(cells) => cells.len(),
        }
    }
}

/// A column, named with its unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its cells, as many as every other column of the table has.
    pub cells: Cells,
}

/// Columns as CSV with a header. What there is nothing to say of is empty.
///
/// # Errors
/// [`ExportError::Empty`] without rows, [`ExportError::Writer`].
pub fn csv(columns: &[Column]) -> Result<Vec<u8>, ExportError> {
    let refused = |e: &dyn ToString| ExportError::Writer { format: "CSV", reason: e.to_string() };
    let rows = rows(columns)?;
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns.iter().map(|c| &c.name)).map_err(|e| refused(&e))?;
    for row in 0..rows {
        let cells = columns.iter().map(|column| match &column.cells {
            Cells::Text(cells) => cells[row].clone(),
            Cells::Count(cells) => cells[row].map(|v| v.to_string()),
            Cells::Number(cells) => cells[row].map(|v| v.to_string()),
            Cells::Truth(cells) => cells[row].map(|v| v.to_string()),
        });
        writer.write_record(cells.map(Option::unwrap_or_default)).map_err(|e| refused(&e))?;
    }
    writer.into_inner().map_err(|e| refused(&e))
}

/// Columns as Parquet, one row group, compressed with Snappy; `name` is that of the schema.
///
/// # Errors
/// As [`csv`].
pub fn parquet(name: &str, columns: &[Column]) -> Result<Vec<u8>, ExportError> {
    let refused = |e: parquet::errors::ParquetError| ExportError::Writer { format: "Parquet", reason: e.to_string() };
    rows(columns)?;
    let fields: Result<Vec<_>, _> = columns.iter().map(|column| field(column).map(Arc::new)).collect();
    let schema = Type::group_type_builder(name).with_fields(fields.map_err(refused)?).build().map_err(refused)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::new(properties)).map_err(refused)?;
    let mut group = file.next_row_group().map_err(refused)?;
    for column in columns {
        let Some(mut writer) = group.next_column().map_err(refused)? else { break };
        match &column.cells {
            Cells::Text(cells) => {
                let bytes = |text: &String| ByteArray::from(text.as_bytes().to_vec());
                write::<ByteArrayType, _>(&mut writer, cells, bytes)
            }
            // Parquet's unsigned numbers are kept as the bits of signed ones.
            Cells::Count(cells) => write::<Int64Type, _>(&mut writer, cells, |v| *v as i64),
            Cells::Number(cells) => write::<DoubleType, _>(&mut writer, cells, |v| *v),
            Cells::Truth(cells) => write::<BoolType, _>(&mut writer, cells, |v| *v),
        }
        .map_err(refused)?;
        writer.close().map_err(refused)?;
    }
    group.close().map_err(refused)?;
    file.close().map_err(refused)?;
    Ok(bytes)
}

/// The number of rows, the same in every column.
fn rows(columns: &[Column]) -> Result<usize, ExportError> {
    let rows = columns.first().map_or(0, |column| column.cells.len());
    if let Some(other) = columns.iter().find(|column| column.cells.len() != rows) {
        let reason = format!("column `{}` has {} cells, expected {rows}", other.name, other.cells.len());
        return Err(ExportError::Writer { format: "a table", reason });
    }
    if rows == 0 { Err(ExportError::Empty) } else { Ok(rows) }
}

fn field(column: &Column) -> Result<Type, parquet::errors::ParquetError> {
    let (physical, logical) = match column.cells {
        Cells::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Cells::Count(_) => (Physical::INT64, Some(LogicalType::integer(64, false))),
        Cells::Number(_) => (Physical::DOUBLE, None),
        Cells::Truth(_) => (Physical::BOOLEAN, None),
    };
    let field = Type::primitive_type_builder(&column.name, physical);
    field.with_logical_type(logical).with_repetition(Repetition::OPTIONAL).build()
}

fn write<T: DataType, V>(
    writer: &mut SerializedColumnWriter<'_>,
    cells: &[Option<V>],
    value: impl Fn(&V) -> T::T,
) -> Result<usize, parquet::errors::ParquetError> {
    let present: Vec<T::T> = cells.iter().flatten().map(value).collect();
    let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    writer.typed::<T>().write_batch(&present, Some(&levels), None)
}
