//! A search simple enough to be right by inspection, and faults around any search that a gate must catch.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ff_spec::cell_list::{InputError, Inputs, List, NeighborList, Variant};
use ff_spec::{CellList, Clock, Device, DeviceId, Dtype, Launch, LaunchConfig, LaunchError, Prepare, Problem};

use crate::cell_list::systems::rounded_batch;
use crate::scalar::scalar_device;

/// One edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// i.
    pub receiver: u32,
    /// j.
    pub sender: u32,
    /// S.
    pub shift: [i32; 3],
    /// r_ij in Å.
    pub vector: [f64; 3],
}

impl Edge {
    /// The same pair seen from the sender.
    pub fn reverse(self) -> Self {
        Self {
            receiver: self.sender,
            sender: self.receiver,
            shift: self.shift.map(|s| -s),
            vector: self.vector.map(|x| -x),
        }
    }

    /// What edges are sorted by, and are the same by.
    pub fn key(&self) -> (u32, u32, [i32; 3]) {
        (self.receiver, self.sender, self.shift)
    }
}

/// The edges of a list one by one.
pub fn edges(list: &NeighborList<f64>) -> Vec<Edge> {
    let row = |i: usize| {
        list.row(i).map(move |e| Edge {
            receiver: i as u32,
            sender: list.sender[e],
            shift: list.shift[e],
            vector: list.edge_vec[e],
        })
    };
    (0..list.n_atoms()).flat_map(row).collect()
}

/// A sorted list of these edges.
pub fn assembled(n_atoms: usize, mut edges: Vec<Edge>) -> NeighborList<f64> {
    edges.sort_by_key(Edge::key);
    in_this_order(n_atoms, &edges)
}

/// A list of edges that are sorted by receiver, if by nothing else.
fn in_this_order(n_atoms: usize, edges: &[Edge]) -> NeighborList<f64> {
    let counted = |of: &dyn Fn(&Edge) -> u32| -> Vec<u32> {
        let mut offsets = vec![0; n_atoms + 1];
        for edge in edges {
            offsets[of(edge) as usize + 1] += 1;
        }
        for atom in 0..n_atoms {
            offsets[atom + 1] += offsets[atom];
        }
        offsets
    };
    let mut transpose: Vec<u32> = (0..edges.len() as u32).collect();
    transpose.sort_by_key(|&e| edges[e as usize].reverse().key());
    NeighborList {
        row_ptr: counted(&|e| e.receiver),
        sender: edges.iter().map(|e| e.sender).collect(),
        shift: edges.iter().map(|e| e.shift).collect(),
        edge_vec: edges.iter().map(|e| e.vector).collect(),
        sender_ptr: counted(&|e| e.sender),
        transpose,
    }
}

/// All edges, found in the arithmetic of `dtype`, which `inputs` must be rounded to.
///
/// Every atom is moved into its cell, every pair is looked at in all images around that cell whose planes are within
/// reach, and what counts is the vector between the atoms where they were.
///
/// # Errors
/// [`InputError`] for inputs that no list can be made of.
pub fn scalar_list(inputs: &Inputs<f64>, list: List, dtype: Dtype) -> Result<NeighborList<f64>, InputError> {
    inputs.check()?;
    // A sum or product of two numbers of f32 that is rounded to f64 and then to f32 is rounded as if once.
    let round = |x: f64| dtype.round(x);
    let mut found = Vec::new();
    for system in 0..inputs.n_systems() {
        let pbc = inputs.pbc[system];
        let basis = completed(inputs.cell(system), pbc);
        let volume = dot(basis[0], cross(basis[1], basis[2]));
        let singular = || InputError::SingularCell { system, found: inputs.cell(system), pbc };
        if volume == 0.0 || !volume.is_finite() {
            return Err(singular());
        }
        let dual: [[f64; 3]; 3] =
            std::array::from_fn(|k| cross(basis[(k + 1) % 3], basis[(k + 2) % 3]).map(|x| x / volume));
        let height = dual.map(|d| 1.0 / dot(d, d).sqrt());
        let atoms = inputs.atoms(system);
        let furthest = inputs.positions[3 * atoms.start..3 * atoms.end].iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        // With room for what f32 loses far from the origin.
        let reach = 1.01 * inputs.cutoff + 1e-5 * furthest;
        let span: [i32; 3] = std::array::from_fn(|k| if pbc[k] { (reach / height[k]) as i32 + 1 } else { 0 });
        let lattice_place = |x: [f64; 3]| dual.map(|d| dot(x, d));
        for i in atoms.clone() {
            let (x_i, s_i) = (inputs.position(i), lattice_place(inputs.position(i)));
            for j in atoms.clone() {
                let (x_j, s_j) = (inputs.position(j), lattice_place(inputs.position(j)));
                // From the cell of one to the cell of the other.
                let home: [i32; 3] =
                    std::array::from_fn(|k| if pbc[k] { (s_i[k].floor() - s_j[k].floor()) as i32 } else { 0 });
                let away = |k: usize, image: i32| (s_j[k] - s_i[k] + f64::from(image + home[k])).abs() * height[k];
                for a in (-span[0]..=span[0]).filter(|a| away(0, *a) < reach) {
                    for b in (-span[1]..=span[1]).filter(|b| away(1, *b) < reach) {
                        for c in (-span[2]..=span[2]).filter(|c| away(2, *c) < reach) {
                            let shift = [a + home[0], b + home[1], c + home[2]];
                            let vector: [f64; 3] = std::array::from_fn(|x| {
                                let part = |k: usize| {
                                    // An open direction has no vector to multiply by 0.
                                    if pbc[k] { round(round(f64::from(shift[k])) * basis[k][x]) } else { 0.0 }
                                };
                                let moved = round(round(part(0) + part(1)) + part(2));
                                round(round(x_j[x] - x_i[x]) + moved)
                            });
                            let [x, y, z] = vector.map(|x| round(x * x));
                            let inside = round(round(x + y) + z) < round(inputs.cutoff * inputs.cutoff);
                            let (i, j) = (i as u32, j as u32);
                            if inside && (i != j || shift != [0; 3]) && list.has(i, j, shift) {
                                found.push(Edge { receiver: i, sender: j, shift, vector });
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(assembled(inputs.n_atoms(), found))
}

/// The cell with unit vectors across all periodic ones in its open directions.
fn completed(mut cell: [[f64; 3]; 3], pbc: [bool; 3]) -> [[f64; 3]; 3] {
    let unit = |v: [f64; 3]| v.map(|x| x / dot(v, v).sqrt());
    let open: Vec<usize> = (0..3).filter(|k| !pbc[*k]).collect();
    match open[..] {
        [] => {}
        [k] => cell[k] = unit(cross(cell[(k + 1) % 3], cell[(k + 2) % 3])),
        [k, l] => {
            let along = cell[3 - k - l];
            let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
            let across = axes.map(|axis| cross(along, axis));
            let longest = across.into_iter().max_by(|a, b| dot(*a, *a).total_cmp(&dot(*b, *b)));
            cell[k] = unit(longest.unwrap_or_default());
            cell[l] = unit(cross(along, cell[k]));
        }
        _ => cell = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    }
    cell
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// [`scalar_list`] as a runtime.
#[derive(Debug)]
pub struct ScalarLists(DeviceId);

impl Default for ScalarLists {
    fn default() -> Self {
        Self(scalar_device())
    }
}

impl Device for ScalarLists {
    fn device(&self) -> &DeviceId {
        &self.0
    }

    fn clock(&self) -> Clock {
        Clock::Wall
    }
}

impl Prepare<CellList> for ScalarLists {
    fn default_config(&self, _: &Variant, _: Dtype, _: &Problem) -> LaunchConfig {
        LaunchConfig::default()
    }

    fn prepare(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        _: &LaunchConfig,
    ) -> Result<Box<dyn Launch<CellList>>, LaunchError> {
        inputs.check()?;
        let inputs = rounded_batch(inputs, dtype);
        Ok(Box::new(ScalarLaunch { list: variant.list, dtype, inputs, outputs: NeighborList::default() }))
    }
}

struct ScalarLaunch {
    list: List,
    dtype: Dtype,
    inputs: Inputs<f64>,
    outputs: NeighborList<f64>,
}

impl Launch<CellList> for ScalarLaunch {
    fn poison(&mut self) -> Result<(), LaunchError> {
        let NeighborList { row_ptr, sender, shift, edge_vec, sender_ptr, transpose } = &mut self.outputs;
        [row_ptr, sender, sender_ptr, transpose].into_iter().for_each(|x| x.fill(u32::MAX));
        shift.fill([i32::MAX; 3]);
        edge_vec.fill([f64::NAN; 3]);
        Ok(())
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        self.outputs = scalar_list(&self.inputs, self.list, self.dtype)?;
        Ok(())
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        let start = Instant::now();
        self.run()?;
        Ok(start.elapsed())
    }

    fn outputs(&mut self) -> Result<NeighborList<f64>, LaunchError> {
        Ok(self.outputs.clone())
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let Inputs { positions, system_ptr, cell, pbc, cutoff } = &self.inputs;
        let mut hasher = DefaultHasher::new();
        (system_ptr, pbc).hash(&mut hasher);
        positions.iter().chain(cell).chain([cutoff]).for_each(|x| x.to_bits().hash(&mut hasher));
        Ok(hasher.finish())
    }
}

/// A fault that a gate must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// Shifts are those of the receiver.
    WrongShiftSign,
    /// Vectors point from the sender to the receiver.
    WrongVectorSign,
    /// A pair is left out.
    DroppedPair,
    /// One direction of a pair is left out; on a half list that is the pair.
    OneSidedPair,
    /// Atoms do not see their own images.
    MissingSelfImages,
    /// Two edges of a row are the wrong way round.
    UnsortedRow,
    /// An edge is listed twice.
    RepeatedEdge,
    /// An edge of a half list is replaced by its reverse. A full list has both and shows nothing.
    WrongHalf,
    /// Pairs exactly at the cutoff are edges.
    InclusiveCutoff,
    /// Two entries of `transpose` are exchanged.
    WrongTranspose,
    /// `sender_ptr` is that of a full list; on a full list it is moved by one.
    WrongSenderPtr,
    /// The last edge is counted but not written.
    MissingWrite,
    /// A vector differs in its last bits from the negative of its reverse; on a half list it is off by more than that.
    LopsidedVector,
    /// What the first launch of the same shape left in memory is used: wrong from the second seed on.
    StaleBufferRead,
    /// An input is written to.
    InputOverwritten,
    /// Everything is zero.
    ZeroOutput,
    /// There is no edge.
    EmptyOutput,
    /// `poison` does nothing.
    SurvivesPoison,
    /// Every run has other last bits.
    Irreproducible,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Mutation; 19] = [
        Mutation::WrongShiftSign,
        Mutation::WrongVectorSign,
        Mutation::DroppedPair,
        Mutation::OneSidedPair,
        Mutation::MissingSelfImages,
        Mutation::UnsortedRow,
        Mutation::RepeatedEdge,
        Mutation::WrongHalf,
        Mutation::InclusiveCutoff,
        Mutation::WrongTranspose,
        Mutation::WrongSenderPtr,
        Mutation::MissingWrite,
        Mutation::LopsidedVector,
        Mutation::StaleBufferRead,
        Mutation::InputOverwritten,
        Mutation::ZeroOutput,
        Mutation::EmptyOutput,
        Mutation::SurvivesPoison,
        Mutation::Irreproducible,
    ];

    /// Whether lists of this kind can have the fault.
    pub fn concerns(self, list: List) -> bool {
        self != Mutation::WrongHalf || list == List::Half
    }
}

/// What launches have the same shape by: variant, dtype, atoms, systems.
type Shape = (Variant, Dtype, usize, usize);

/// The first launch's list by shape, shared between a runtime and its launches.
type Leftovers = Rc<RefCell<BTreeMap<Shape, NeighborList<f64>>>>;

/// Puts a fault around every launch of a runtime, from the outside: through its inputs, its outputs or its digest.
pub fn mutate<'a>(runtime: Box<dyn Prepare<CellList> + 'a>, mutation: Mutation) -> Box<dyn Prepare<CellList> + 'a> {
    Box::new(Mutated { inner: runtime, mutation, leftovers: Leftovers::default() })
}

struct Mutated<'a> {
    inner: Box<dyn Prepare<CellList> + 'a>,
    mutation: Mutation,
    leftovers: Leftovers,
}

impl Device for Mutated<'_> {
    fn device(&self) -> &DeviceId {
        self.inner.device()
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }
}

impl Prepare<CellList> for Mutated<'_> {
    fn default_config(&self, variant: &Variant, dtype: Dtype, problem: &Problem) -> LaunchConfig {
        self.inner.default_config(variant, dtype, problem)
    }

    fn prepare(
        &self,
        variant: &Variant,
        dtype: Dtype,
        inputs: &Inputs<f64>,
        config: &LaunchConfig,
    ) -> Result<Box<dyn Launch<CellList>>, LaunchError> {
        let mut inputs = inputs.clone();
        if self.mutation == Mutation::InclusiveCutoff {
            inputs.cutoff = match dtype {
                Dtype::F32 => f64::from((inputs.cutoff as f32).next_up()),
                Dtype::F64 => inputs.cutoff.next_up(),
            };
        }
        Ok(Box::new(MutatedLaunch {
            inner: self.inner.prepare(variant, dtype, &inputs, config)?,
            mutation: self.mutation,
            shape: (*variant, dtype, inputs.n_atoms(), inputs.n_systems()),
            leftovers: self.leftovers.clone(),
            runs: 0,
            poisoned: false,
            last: NeighborList::default(),
        }))
    }
}

struct MutatedLaunch {
    inner: Box<dyn Launch<CellList>>,
    mutation: Mutation,
    shape: Shape,
    leftovers: Leftovers,
    runs: u64,
    poisoned: bool,
    last: NeighborList<f64>,
}

impl Launch<CellList> for MutatedLaunch {
    fn poison(&mut self) -> Result<(), LaunchError> {
        self.poisoned = true;
        self.inner.poison()
    }

    fn run(&mut self) -> Result<(), LaunchError> {
        (self.poisoned, self.runs) = (false, self.runs + 1);
        self.inner.run()
    }

    fn time(&mut self) -> Result<Duration, LaunchError> {
        (self.poisoned, self.runs) = (false, self.runs + 1);
        self.inner.time()
    }

    fn outputs(&mut self) -> Result<NeighborList<f64>, LaunchError> {
        let out = self.inner.outputs()?;
        match (self.poisoned, self.mutation) {
            (true, Mutation::SurvivesPoison) => Ok(self.last.clone()),
            (true, _) => Ok(out),
            (false, Mutation::StaleBufferRead) => {
                Ok(self.leftovers.borrow_mut().entry(self.shape).or_insert(out).clone())
            }
            (false, Mutation::Irreproducible) => {
                let mut out = out;
                if let (0, Some([x, ..])) = (self.runs % 2, out.edge_vec.last_mut()) {
                    // By an ulp of the type, which is what its comparison cannot see.
                    *x += *x * if self.shape.1 == Dtype::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
                }
                Ok(out)
            }
            (false, mutation) => {
                self.last = mutated(out, mutation, self.shape.0.list);
                Ok(self.last.clone())
            }
        }
    }

    fn input_digest(&mut self) -> Result<u64, LaunchError> {
        let digest = self.inner.input_digest()?;
        Ok(if self.mutation == Mutation::InputOverwritten { digest ^ self.runs } else { digest })
    }
}

/// A right list with the fault in it, if the fault is in the list.
pub fn mutated(mut list: NeighborList<f64>, mutation: Mutation, kind: List) -> NeighborList<f64> {
    let n_atoms = list.n_atoms();
    let mut all = edges(&list);
    match mutation {
        Mutation::WrongShiftSign => all.iter_mut().for_each(|e| e.shift = e.shift.map(|s| -s)),
        Mutation::WrongVectorSign => all.iter_mut().for_each(|e| e.vector = e.vector.map(|x| -x)),
        Mutation::DroppedPair => {
            if let Some(last) = all.pop() {
                all.retain(|e| e.key() != last.reverse().key());
            }
        }
        Mutation::OneSidedPair => drop(all.pop()),
        Mutation::MissingSelfImages => all.retain(|e| e.receiver != e.sender),
        Mutation::UnsortedRow => {
            if let Some(e) = (1..all.len()).find(|e| all[e - 1].receiver == all[*e].receiver) {
                all.swap(e - 1, e);
            }
            return in_this_order(n_atoms, &all);
        }
        Mutation::RepeatedEdge => all.extend(all.last().copied()),
        Mutation::WrongHalf if kind == List::Half => {
            if let Some(last) = all.last_mut() {
                *last = last.reverse();
            }
        }
        Mutation::LopsidedVector => {
            let by = if kind == List::Full { f64::from(f32::EPSILON) } else { 1e-3 };
            if let Some([x, ..]) = list.edge_vec.last_mut() {
                *x = (*x + by) * (1.0 + by);
            }
            return list;
        }
        Mutation::WrongTranspose => {
            if let [first, .., last] = &mut list.transpose[..] {
                std::mem::swap(first, last);
            }
            return list;
        }
        Mutation::WrongSenderPtr => {
            if kind == List::Full {
                list.sender_ptr.rotate_left(1);
            } else {
                let both = all.iter().flat_map(|e| [*e, e.reverse()]).collect();
                list.sender_ptr = assembled(n_atoms, both).sender_ptr;
            }
            return list;
        }
        Mutation::MissingWrite => {
            if let (Some(vector), Some(transpose)) = (list.edge_vec.last_mut(), list.transpose.last_mut()) {
                (*vector, *transpose) = ([f64::NAN; 3], u32::MAX);
            }
            return list;
        }
        Mutation::ZeroOutput => {
            let NeighborList { row_ptr, sender, shift, edge_vec, sender_ptr, transpose } = &mut list;
            [row_ptr, sender, sender_ptr, transpose].into_iter().for_each(|x| x.fill(0));
            shift.fill([0; 3]);
            edge_vec.fill([0.0; 3]);
            return list;
        }
        Mutation::EmptyOutput => all.clear(),
        Mutation::WrongHalf
        | Mutation::InclusiveCutoff
        | Mutation::StaleBufferRead
        | Mutation::InputOverwritten
        | Mutation::SurvivesPoison
        | Mutation::Irreproducible => return list,
    }
    assembled(n_atoms, all)
}

#[cfg(test)]
mod tests {
    use ff_spec::cell_list::Strategy;
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::{CaseSet, OracleCache};
    use crate::cell_list::discriminates;
    use crate::cell_list::systems::strategies;
    use crate::gate::{Verdict, check};
    use crate::testing::{assert_caught, assert_passes, gate};
    use crate::tolerance::{Order, tolerance};

    const VARIANTS: [Variant; 2] = [
        Variant { list: List::Full, strategy: Strategy::Cells },
        Variant { list: List::Half, strategy: Strategy::Brute },
    ];

    #[test]
    fn the_right_search_passes_everything() {
        let summary = assert_passes(&ScalarLists::default(), &VARIANTS, &Dtype::ALL);
        // Every case leaves f32 the digits that tables ask for.
        for row in &summary.cases {
            assert!(row.rel_error.unwrap() <= tolerance(row.dtype, Order::Forward) / 2.0, "{row:?}");
        }
    }

    #[test]
    fn every_fault_is_caught_in_every_variant_and_dtype() {
        let mut cache = OracleCache::default();
        for mutation in Mutation::ALL {
            let runtime = mutate(Box::new(ScalarLists::default()), mutation);
            let variants: Vec<_> = VARIANTS.into_iter().filter(|v| mutation.concerns(v.list)).collect();
            assert_caught(&format!("{mutation:?}"), runtime.as_ref(), &variants, &mut cache);
        }
    }

    /// A fault is caught for what it is, not by accident.
    #[test]
    fn reasons_name_the_fault() {
        let mut cache = OracleCache::default();
        for (mutation, list, expected) in [
            (Mutation::OneSidedPair, List::Full, "is missing"),
            (Mutation::MissingSelfImages, List::Full, "is missing"),
            (Mutation::UnsortedRow, List::Full, "out of order"),
            (Mutation::RepeatedEdge, List::Full, "listed twice"),
            (Mutation::WrongHalf, List::Half, "the half list has its reverse"),
            (Mutation::InclusiveCutoff, List::Full, "not within the cutoff"),
            (Mutation::WrongTranspose, List::Full, "`transpose`"),
            (Mutation::WrongSenderPtr, List::Half, "`sender_ptr`"),
            (Mutation::LopsidedVector, List::Full, "exact negative"),
            (Mutation::LopsidedVector, List::Half, "`edge_vec`"),
            (Mutation::InputOverwritten, List::Half, "changed its inputs"),
            (Mutation::SurvivesPoison, List::Full, "poison"),
            (Mutation::EmptyOutput, List::Full, "is missing"),
            (Mutation::Irreproducible, List::Half, "same bits"),
        ] {
            let runtime = mutate(Box::new(ScalarLists::default()), mutation);
            let variants = VARIANTS.into_iter().filter(|v| v.list == list).collect::<Vec<_>>();
            let summary = gate(runtime.as_ref(), &variants, &Dtype::ALL, CaseSet::Quick, &mut cache);
            let reasons: Vec<&str> = summary.cases.iter().filter_map(|r| r.reason.as_deref()).collect();
            assert!(reasons.iter().any(|r| r.contains(expected)), "{mutation:?}: {:?}", reasons.first());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// Whatever the inputs, a right search passes.
        #[test]
        fn a_right_search_is_not_refused(inputs in strategies::batch()) {
            for dtype in Dtype::ALL {
                for variant in VARIANTS {
                    let inputs = rounded_batch(&inputs, dtype);
                    let oracle = ff_reference::cell_list::search(&inputs, variant.list, dtype).unwrap();
                    let runtime = ScalarLists::default();
                    let verdict =
                        check::<CellList>(&runtime, &variant, dtype, &LaunchConfig::default(), &inputs, &oracle);
                    let excused = discriminates(&oracle, dtype).is_err();
                    prop_assert!(matches!(verdict, Verdict::Passed { .. }) || excused, "{variant} {dtype}: {verdict:?}");
                }
            }
        }
    }
}
