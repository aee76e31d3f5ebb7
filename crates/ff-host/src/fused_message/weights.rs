//! Matrices of the filter in the order in which passes over channels read them.

use std::marker::PhantomData;

use ff_spec::fused_message::Filter;
use pulp::{Arch, Simd, WithSimd};

use super::config::HostConfig;
use crate::{Aligned, Element};

/// How passes cut the channels of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Filters per feature.
    pub parts: usize,
    /// F.
    pub features: usize,
    /// Lanes of a register.
    pub lanes: usize,
    /// Registers of channels of one pass.
    pub registers: usize,
}

impl Layout {
    /// What `config` asks for in a derivative order, and no more registers than sums and filters stay in.
    pub fn of_order<T: Element>(order: u8, parts: usize, features: usize, config: &HostConfig) -> Self {
        let most = match (order, parts) {
            (0, 1) => 4,
            (0 | 1, _) => 2,
            _ => 1,
        };
        let lanes = Arch::new().dispatch(Lanes(PhantomData::<T>));
        let registers = config.channel_block.div_ceil(lanes).clamp(1, most);
        Self { parts, features, lanes, registers: 1 << registers.ilog2() }
    }

    fn passes(self) -> impl Iterator<Item = (usize, usize)> {
        passes(self.features, self.lanes, self.registers)
    }

    /// The columns of a matrix [rows, parts · features] as [parts · features padded, rows].
    pub fn columns<T: Element>(self, matrix: &[T]) -> Vec<T> {
        let Self { parts, features, lanes, .. } = self;
        let rows = matrix.len() / (parts * features).max(1);
        let mut columns = Vec::with_capacity(rows * parts * features.next_multiple_of(lanes));
        for (first, registers) in self.passes() {
            for (part, channel) in
                (0..parts).flat_map(|part| (first..first + registers * lanes).map(move |c| (part, c)))
            {
                let at = |row: usize| matrix[(row * parts + part) * features + channel];
                columns.extend((0..rows).map(|row| if channel < features { at(row) } else { T::default() }));
            }
        }
        columns
    }

    /// Writes `values` [rows, parts · features padded], in the order of the passes, as the rows of a matrix
    /// [rows, parts · features].
    pub fn unpack<'a, T: Element>(self, values: &[T], rows: impl Iterator<Item = &'a mut [T]>) {
        let Self { parts, features, lanes, .. } = self;
        let mut rows: Vec<&mut [T]> = rows.collect();
        let mut values = values.iter();
        for (first, registers) in self.passes() {
            for (row, part) in (0..rows.len()).flat_map(|row| (0..parts).map(move |part| (row, part))) {
                for channel in first..first + registers * lanes {
                    let value = values.next();
                    if let (true, Some(value)) = (channel < features, value) {
                        rows[row][part * features + channel] = *value;
                    }
                }
            }
        }
    }
}

/// Lanes of a register at the level that this processor has.
struct Lanes<T>(PhantomData<T>);

impl<T: Element> WithSimd for Lanes<T> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        T::lanes::<S>()
    }
}

/// The passes over `features` channels: (first channel, registers), `most` registers at a time and then fewer; a last
/// pass of one register may be wider than what is left.
pub(super) fn passes(features: usize, lanes: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut c = 0;
    std::iter::from_fn(move || {
        let left = features.checked_sub(c).filter(|left| *left > 0)?;
        let mut registers = most;
        while registers > 1 && registers * lanes > left {
            registers /= 2;
        }
        let at = c;
        c += registers * lanes;
        Some((at, registers))
    })
}

/// A matrix [rows, parts × features], copied so that every pass reads one contiguous piece [rows, parts, channels of the
/// pass], padded with zeros to whole registers. As it lies in a row-major matrix, the columns of one pass would share a
/// few sets of the L1 cache, and as a `Vec` it would start within a cache line.
#[derive(Clone)]
pub(super) struct Packed<T> {
    values: Aligned<T>,
    rows: usize,
    parts: usize,
}

impl<T: Element> Packed<T> {
    /// For the passes of `layout`.
    pub fn new(matrix: &[T], layout: Layout) -> Self {
        let Layout { parts, features, lanes, .. } = layout;
        let rows = matrix.len().checked_div(parts * features).unwrap_or(0);
        let mut values = Aligned::zeros(rows * parts * features.next_multiple_of(lanes));
        let mut at = 0;
        for (c, registers) in layout.passes() {
            let width = (registers * lanes).min(features - c);
            for row in matrix.chunks_exact(features) {
                values[at..at + width].copy_from_slice(&row[c..c + width]);
                at += registers * lanes;
            }
        }
        Self { values, rows, parts }
    }

    /// The piece [rows, parts, width] of the pass that starts at channel `first`; `width` is in whole registers.
    #[inline(always)]
    pub fn piece(&self, first: usize, width: usize) -> &[T] {
        &self.values[self.rows * self.parts * first..][..self.rows * self.parts * width]
    }
}

/// The last linear map of a filter in the order of the passes of one configuration and derivative order.
#[derive(Clone)]
pub struct PackedFilter<T> {
    pub(super) layout: Layout,
    pub(super) weights: Packed<T>,
    /// `None` of a table.
    pub(super) bias: Option<Packed<T>>,
}

impl<T: Element> PackedFilter<T> {
    /// Packs a filter of `parts` × `features` channels for calls of a derivative order under `config`.
    pub fn new(order: u8, filter: &Filter<T>, parts: usize, features: usize, config: &HostConfig) -> Self {
        Self::of(filter, Layout::of_order::<T>(order, parts, features, config))
    }

    pub(super) fn of(filter: &Filter<T>, layout: Layout) -> Self {
        let pack = |matrix: &[T]| Packed::new(matrix, layout);
        let (weights, bias) = match filter {
            Filter::Linear { a, b } => (pack(a), Some(pack(b))),
            Filter::Mlp { a2, b2, .. } => (pack(a2), Some(pack(b2))),
            Filter::Tabulated { values, .. } => (pack(values), None),
        };
        Self { layout, weights, bias }
    }
}
