//! The comment line, and the columns that it names.

use std::borrow::Cow;

use super::KEYS;
use crate::StructureError;
use crate::elements::{MAX_ATOMIC_NUMBER, atomic_number};
use crate::io::frame::{Column, ColumnKind};
use crate::io::{Place, quoted};

/// Typing errors that a key may have and still be taken for a slip; a third of its letters where that is less.
const MOST_ERRORS: usize = 2;

/// What the comment line says.
pub(super) struct Header {
    pub name: Option<String>,
    pub cell: Option<[[f64; 3]; 3]>,
    pub pbc: [bool; 3],
    pub columns: Columns,
    /// Every other pair, in order.
    pub info: Vec<(String, String)>,
    /// Keys that are not read, each with the one that it was probably meant to be.
    pub slips: Vec<(String, &'static str)>,
}

impl Header {
    pub(super) fn parse(comment: &str, place: Place<'_>) -> Result<Self, StructureError> {
        let has = |key: &str| comment.split(key).skip(1).any(|after| after.trim_start().starts_with('='));
        if !has("Lattice") && !has("Properties") {
            return Ok(Self::free_text(comment, place));
        }
        let pairs = pairs(comment, place)?;
        let slips = slips(pairs.iter().map(|(key, _)| key.as_ref()));
        let (mut name, mut cell, mut pbc, mut columns, mut info) = (None, None, None, Columns::plain(), Vec::new());
        for (key, value) in pairs {
            let value = value.unwrap_or("T".into());
            match key.as_ref() {
                "Lattice" => cell = Some(lattice(&value, place)?),
                "pbc" => pbc = Some(periodic(&value, place)?),
                "Properties" => columns = Columns::parse(&value, place)?,
                _ => {
                    if key == "name" && !value.is_empty() {
                        name = Some(value.clone().into_owned());
                    }
                    info.push((key.into_owned(), value.into_owned()));
                }
            }
        }
        let pbc = pbc.unwrap_or([cell.is_some(); 3]);
        if cell.is_none() && pbc.contains(&true) {
            let slip = slips.iter().find(|(_, meant)| *meant == "Lattice");
            let found = slip.map_or_else(|| "none".to_owned(), |(found, _)| quoted(found));
            return Err(place.expected("a Lattice, because pbc has a periodic direction", found));
        }
        Ok(Self { name, cell, pbc, columns, info, slips })
    }

    /// The comment of plain XYZ, which need not be pairs; what stands before a `=` in it may still have been meant as a key.
    fn free_text(comment: &str, place: Place<'_>) -> Self {
        let before = comment.match_indices('=').map(|(at, _)| comment[..at].split_whitespace().next_back());
        let slips = slips(before.flatten());
        let is_pair =
            |(key, value): &Pair<'_>| !key.is_empty() && value.as_ref().is_some_and(|value| !value.is_empty());
        let info = match pairs(comment, place) {
            // A plain frame is open whatever it says of `pbc`, so this is not handed on.
            Ok(pairs) if pairs.iter().all(is_pair) => pairs
                .into_iter()
                .filter(|(key, _)| !KEYS.contains(&key.as_ref()))
                .filter_map(|(key, value)| Some((key.into_owned(), value?.into_owned())))
                .collect(),
            _ => vec![("comment".to_owned(), comment.trim().to_owned())],
        };
        Self { name: None, cell: None, pbc: [false; 3], columns: Columns::plain(), info, slips }
    }
}

/// The keys that are nearly one of [`KEYS`] which is not there itself: in another case, or with a typing error or two.
fn slips<'a>(keys: impl Iterator<Item = &'a str> + Clone) -> Vec<(String, &'static str)> {
    let missing: Vec<&'static str> = KEYS.into_iter().filter(|key| !keys.clone().any(|found| found == *key)).collect();
    let nearest = |found: &'a str| {
        let errors = |key: &&'static str| {
            let errors = strsim::damerau_levenshtein(&found.to_lowercase(), &key.to_lowercase());
            (errors <= MOST_ERRORS.min(key.len() / 3)).then_some((errors, *key))
        };
        missing.iter().filter_map(errors).min().map(|(_, key)| (found, key))
    };
    let mut slips: Vec<(String, &'static str)> = Vec::new();
    for (found, key) in keys.filter_map(nearest) {
        if !slips.iter().any(|(known, meant)| (known.as_str(), *meant) == (found, key)) {
            slips.push((found.to_owned(), key));
        }
    }
    slips
}

/// A key, and its value unless it stands alone.
type Pair<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// The `key=value` pairs of a comment line.
fn pairs<'a>(comment: &'a str, place: Place<'_>) -> Result<Vec<Pair<'a>>, StructureError> {
    let mut pairs = Vec::new();
    let mut rest = comment.trim_start();
    while !rest.is_empty() {
        let (key, after) = token(rest, |c| c.is_whitespace() || c == '=', place)?;
        let after_blank = after.trim_start();
        let Some(after) = after_blank.strip_prefix('=') else {
            pairs.push((key, None));
            rest = after_blank;
            continue;
        };
        // `name= energy=1` is an empty value followed by a pair; only a quoted value may stand apart from its `=`.
        let apart = after.trim_start();
        let (value, after) = if apart.starts_with(['"', '\'', '{', '[']) {
            token(apart, char::is_whitespace, place)?
        } else {
            token(after, char::is_whitespace, place)?
        };
        pairs.push((key, Some(value)));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// Splits off one token: quoted or bracketed text, or everything up to a delimiter. A quoted one comes without its quotes and
/// without the backslashes before quotes and backslashes in it; any other backslash is a character, as in a path.
fn token<'a>(
    text: &'a str,
    delimiter: impl Fn(char) -> bool,
    place: Place<'_>,
) -> Result<(Cow<'a, str>, &'a str), StructureError> {
    let close = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => quote,
        Some('{') => '}',
        Some('[') => ']',
        _ => {
            let (token, after) = text.split_at(text.find(delimiter).unwrap_or(text.len()));
            return Ok((token.into(), after));
        }
    };
    let body = &text[1..];
    let mut escaped = false;
    let mut depth = 0;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' if close == ']' => depth += 1,
            '{' if close == '}' => depth += 1,
            _ if c == close && depth > 0 => depth -= 1,
            _ if c == close => {
                let is_quoted = matches!(close, '"' | '\'') && body[..at].contains('\\');
                let token = if is_quoted { unescaped(&body[..at]).into() } else { body[..at].into() };
                return Ok((token, &body[at + 1..]));
            }
            _ => {}
        }
    }
    Err(place.expected(format!("a closing `{close}`"), quoted(text)))
}

fn unescaped(body: &str) -> String {
    let mut text = String::with_capacity(body.len());
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next_if(|next| matches!(next, '"' | '\'' | '\\')) } else { None };
        text.push(escaped.unwrap_or(c));
    }
    text
}

fn lattice(value: &str, place: Place<'_>) -> Result<[[f64; 3]; 3], StructureError> {
    let separators = |c: char| c.is_whitespace() || c == ',';
    let entries: Vec<&str> = value.split(separators).filter(|s| !s.is_empty()).collect();
    if entries.len() != 9 {
        let found = format!("{} in {}", entries.len(), quoted(value));
        return Err(place.expected("nine numbers for Lattice", found));
    }
    let mut cell = [[0.0; 3]; 3];
    for (entry, text) in cell.as_flattened_mut().iter_mut().zip(entries) {
        *entry = place.number("Lattice", text)?;
    }
    Ok(cell)
}

fn periodic(value: &str, place: Place<'_>) -> Result<[bool; 3], StructureError> {
    let wrong = || place.expected("three of T or F for pbc", quoted(value));
    let separators = |c: char| c.is_whitespace() || c == ',';
    let mut flags = value.split(separators).filter(|s| !s.is_empty()).map(|flag| match flag {
        "T" | "t" | "True" | "TRUE" | "true" | "1" => Ok(true),
        "F" | "f" | "False" | "FALSE" | "false" | "0" => Ok(false),
        _ => Err(wrong()),
    });
    let mut pbc = [false; 3];
    for periodic in &mut pbc {
        *periodic = flags.next().ok_or_else(wrong)??;
    }
    if flags.next().is_some() { Err(wrong()) } else { Ok(pbc) }
}

/// Where species and positions stand in an atom's line, and what else does.
pub(super) struct Columns {
    species: usize,
    position: usize,
    /// Columns of a line; `None` where a plain XYZ file may have any number of further ones.
    total: Option<usize>,
    /// What is kept as text, each with its first column.
    others: Vec<(Column, usize)>,
}

impl Columns {
    fn plain() -> Self {
        Self { species: 0, position: 1, total: None, others: Vec::new() }
    }

    fn parse(properties: &str, place: Place<'_>) -> Result<Self, StructureError> {
        let fields: Vec<&str> = properties.split(':').collect();
        let malformed = |found: &[&str]| {
            let expected = "Properties as name:type:width triples, type one of S, R, I, L";
            place.expected(expected, quoted(&found.join(":")))
        };
        let (mut symbols, mut numbers, mut position, mut total) = (None, None, None, 0usize);
        let mut others = Vec::new();
        for triple in fields.chunks(3) {
            let &[name, letter, width] = triple else { return Err(malformed(triple)) };
            let kind = ColumnKind::from_letter(letter).ok_or_else(|| malformed(triple))?;
            let width: usize =
                width.parse().ok().filter(|w| (1..=10_000).contains(w)).ok_or_else(|| malformed(triple))?;
            match (name, kind, width) {
                ("species", ColumnKind::Text, 1) => symbols = Some(total),
                ("pos", ColumnKind::Real, 3) => position = Some(total),
                ("species" | "pos", ..) => {
                    return Err(place.expected("columns species:S:1 and pos:R:3", quoted(&triple.join(":"))));
                }
                _ => {
                    if matches!((name, kind, width), ("Z" | "numbers", ColumnKind::Integer, 1)) {
                        numbers = Some(total);
                    }
                    others.push((Column::new(name, kind, width, [""; 0]), total));
                }
            }
            total += width;
        }
        let (Some(species), Some(position)) = (symbols.or(numbers), position) else {
            let expected = "columns species:S:1 (or Z:I:1) and pos:R:3 in Properties";
            return Err(place.expected(expected, quoted(properties)));
        };
        others.retain(|(_, first)| *first != species);
        Ok(Self { species, position, total: Some(total), others })
    }

    /// The columns besides species and positions, without values.
    pub(super) fn kept(&self) -> Vec<Column> {
        self.others.iter().map(|(column, _)| column.clone()).collect()
    }

    /// The species and position of an atom's line, whose other values are added to the columns of [`Self::kept`].
    pub(super) fn atom(
        &self,
        line: &str,
        kept: &mut [Column],
        place: Place<'_>,
    ) -> Result<(u8, [f64; 3]), StructureError> {
        let columns = self.split(line, place)?;
        let right = match self.total {
            Some(total) => columns.len() == total,
            None => columns.len() >= 4,
        };
        if !right {
            let expected = match self.total {
                Some(total) => format!("{total} columns as in Properties"),
                None => "a symbol and three coordinates".into(),
            };
            return Err(place.expected(expected, format!("{} in {}", columns.len(), quoted(line.trim()))));
        }
        let text = &*columns[self.species];
        let z = match text.parse::<u8>() {
            Ok(z) if (1..=MAX_ATOMIC_NUMBER).contains(&z) => Some(z),
            Ok(_) => None,
            Err(_) => atomic_number(text),
        };
        let z = z.ok_or_else(|| place.expected("a chemical symbol", quoted(text)))?;
        let mut position = [0.0; 3];
        for (k, name) in ["x", "y", "z"].into_iter().enumerate() {
            position[k] = place.number(name, &columns[self.position + k])?;
        }
        for (column, (_, first)) in kept.iter_mut().zip(&self.others) {
            columns[*first..*first + column.width].iter().for_each(|value| column.push(value));
        }
        Ok((z, position))
    }

    fn split<'a>(&self, line: &'a str, place: Place<'_>) -> Result<Vec<Cow<'a, str>>, StructureError> {
        // Only columns that Properties declares can be quoted text; in plain XYZ a quote is a character like any other.
        if self.total.is_none() || !line.contains('"') {
            return Ok(line.split_whitespace().map(Cow::Borrowed).collect());
        }
        let mut columns = Vec::new();
        let mut rest = line.trim();
        while !rest.is_empty() {
            let (column, after) = token(rest, char::is_whitespace, place)?;
            columns.push(column);
            rest = after.trim_start();
        }
        Ok(columns)
    }
}
