use std::collections::BTreeSet;

use ff_tune::Expression;

use crate::axes::{Values, values_of};
use crate::description::{Axes, Description, DescriptionError, axis_of_name};
use crate::row::{Row, Value};

/// The rows of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Expansion {
    /// In the order of the axes, repeats last.
    pub rows: Vec<Row>,
    /// How many rows of the product were excluded.
    pub excluded: usize,
    /// How many rows are there twice, and count once.
    pub duplicates: usize,
}

impl Description {
    /// Puts a value in the place of whatever an axis says, in includes too: as of an option of the command line.
    ///
    /// # Errors
    /// A value that the axis does not take.
    pub fn set(&mut self, axis: &str, value: Value) -> Result<(), DescriptionError> {
        if !values_of(axis).is_some_and(|kind| kind.takes(&value)) {
            return Err(self.error(format!("axis `{axis}` does not take {value}")));
        }
        self.axes.insert(axis.to_owned(), vec![value.clone()]);
        for include in &mut self.includes {
            if include.contains_key(axis) {
                include.insert(axis.to_owned(), vec![value.clone()]);
            }
        }
        Ok(())
    }

    /// All rows: the product of the axes without what is excluded, then what is included, each with derived axes and repeats.
    ///
    /// # Errors
    /// More rows than [`Description::limit`]; a derived axis that goes in circles, names what a row does not have, or is no
    /// value of its axis.
    pub fn expand(&self) -> Result<Expansion, DescriptionError> {
        self.within_limit()?;
        let (mut rows, mut excluded): (Vec<Row>, usize) = (Vec::new(), 0);
        for mut row in product(&self.axes) {
            self.derive(&mut row)?;
            if self.is_excluded(&row)? { excluded += 1 } else { rows.push(row) }
        }
        for include in &self.includes {
            // What all rows agree on holds for these too.
            let constants = self.axes.iter().filter(|(name, values)| values.len() == 1 && !include.contains_key(*name));
            let mut all: Axes = constants.map(|(name, values)| (name.clone(), values.clone())).collect();
            all.extend(include.clone());
            for mut row in product(&all) {
                self.derive(&mut row)?;
                rows.push(row);
            }
        }
        let (mut seen, mut unique, mut duplicates) = (BTreeSet::new(), Vec::new(), 0);
        for row in rows {
            if seen.insert(row.to_string()) { unique.push(row) } else { duplicates += 1 }
        }
        if unique.is_empty() {
            return Err(self.error(format!("no rows are left, {excluded} are excluded; expected at least one")));
        }
        let repeated = |row: Row| {
            (0..self.repeats).map(move |repeat| {
                let mut row = row.clone();
                row.0.insert("repeat".to_owned(), Value::Integer(repeat));
                row
            })
        };
        Ok(Expansion { rows: unique.into_iter().flat_map(repeated).collect(), excluded, duplicates })
    }

    /// Counts before anything is made: a product may be too large for memory.
    fn within_limit(&self) -> Result<(), DescriptionError> {
        let size = |axes: &Axes| axes.values().fold(1u128, |n, values| n.saturating_mul(values.len() as u128));
        let includes = self.includes.iter().map(size).fold(0u128, u128::saturating_add);
        let all = size(&self.axes).saturating_add(includes).saturating_mul(u128::from(self.repeats));
        if all <= self.limit as u128 {
            return Ok(());
        }
        let factors = self.axes.iter().filter(|(_, values)| values.len() > 1);
        let factors: Vec<String> = factors.map(|(name, values)| format!("{} of `{name}`", values.len())).collect();
        let besides = if includes > 0 { format!(", {includes} included") } else { String::new() };
        let repeats = if self.repeats > 1 { format!(", {} repeats", self.repeats) } else { String::new() };
        Err(self.error(format!(
            "{all} rows ({}{besides}{repeats}), expected at most {}: take values out or raise `limit`",
            factors.join(" × "),
            self.limit
        )))
    }

    fn derive(&self, row: &mut Row) -> Result<(), DescriptionError> {
        let mut left: Vec<_> = self.derived.iter().filter(|(name, _)| row.get(name).is_none()).collect();
        while !left.is_empty() {
            let ready = left.iter().position(|(_, expression)| arguments(expression, row).is_ok());
            let Some(ready) = ready else {
                let (name, expression) = left[0];
                let lacks = arguments(expression, row).err().unwrap_or_default();
                let circle = left.iter().any(|(other, _)| **other == lacks);
                let why = if circle {
                    "which is derived from it in turn"
                } else {
                    "which this row does not have as a number"
                };
                return Err(self.error(format!("`derived.{name}` names `{lacks}`, {why}; row {row}")));
            };
            let (name, expression) = left.remove(ready);
            let found = arguments(expression, row).and_then(|arguments| expression.evaluate(&arguments));
            let found = found.map_err(|e| self.error(format!("`derived.{name}`: {e}")))?;
            let value = match values_of(name) {
                // Below 2⁵³ a whole number is exact.
                Some(Values::Integer) if found.fract() == 0.0 && (0.0..=9.0e15).contains(&found) => {
                    Value::Integer(found as u64)
                }
                Some(Values::Number) if found.is_finite() => Value::Number(found),
                kind => {
                    let expected = kind.map(Values::expected).unwrap_or_default();
                    let hint = if found.is_finite() { "; `floor` and `ceil` round" } else { "" };
                    return Err(
                        self.error(format!("`derived.{name}` is {found}, expected {expected}{hint}; row {row}"))
                    );
                }
            };
            row.0.insert(name.clone(), value);
        }
        Ok(())
    }

    fn is_excluded(&self, row: &Row) -> Result<bool, DescriptionError> {
        for exclude in &self.excludes {
            let named = exclude.values.iter().all(|(name, values)| row.get(name).is_some_and(|v| values.contains(v)));
            let when = match &exclude.when {
                Some(when) if named => {
                    let found = arguments(when, row).map_err(|lacks| {
                        self.error(format!(
                            "`exclude.when` `{}` names `{lacks}`, which is no number of row {row}",
                            when.text()
                        ))
                    })?;
                    match when.evaluate(&found).map_err(|e| self.error(format!("`exclude.when`: {e}")))? {
                        1.0 => true,
                        0.0 => false,
                        x => {
                            let text = when.text();
                            return Err(self.error(format!("`exclude.when` `{text}` is {x}, expected true or false")));
                        }
                    }
                }
                _ => true,
            };
            if named && when {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What an expression names, in a row; else the axis that the row lacks.
fn arguments(expression: &Expression, row: &Row) -> Result<Vec<f64>, String> {
    let value = |name: &String| {
        let axis = axis_of_name(name).unwrap_or_else(|| name.clone());
        row.number(&axis).ok_or(axis)
    };
    expression.names().iter().map(value).collect()
}

/// Every combination; the last axis in the order of rows changes first.
fn product(axes: &Axes) -> Vec<Row> {
    let mut names: Vec<&String> = axes.keys().collect();
    names.sort_by_key(|name| crate::axes::place(name));
    let mut rows = vec![Row::default()];
    for name in names {
        rows = rows
            .iter()
            .flat_map(|row| {
                axes[name].iter().map(move |value| {
                    let mut row = row.clone();
                    row.0.insert(name.clone(), value.clone());
                    row
                })
            })
            .collect();
    }
    rows
}
