//! How a neighbour list is compared with the oracle: as an exact set, in an exact order.

use ff_reference::cell_list::Oracle;
use ff_spec::Dtype;
use ff_spec::cell_list::{List, NeighborList};

use crate::gated::Failure;
use crate::tolerance::{Order, compare_rounded};

/// Compares a list with the oracle, to (‖out − ref‖/‖ref‖, max |out − ref|) of its vectors.
///
/// In the rows that the oracle looked at every certain edge must be listed, and nothing else but ambiguous ones: those in both directions or in neither. Rows
/// are sorted by (sender, shift), `sender_ptr` and `transpose` follow from the list, and vectors are right within the
/// tolerance of the dtype, their reverse being the exact negative.
///
/// # Errors
/// [`Failure::Wrong`] with a reason that names the edge.
pub fn compare(out: &NeighborList<f64>, oracle: &Oracle, dtype: Dtype) -> Result<(f64, f64), Failure> {
    let receiver = receivers(out, oracle.edges.n_atoms()).map_err(Failure::wrong)?;
    let matched = matched(out, &receiver, oracle).map_err(Failure::wrong)?;
    if oracle.list == List::Full {
        reversed(out, &receiver).map_err(Failure::wrong)?;
    }
    transposed(out, &receiver).map_err(Failure::wrong)?;
    let found: Vec<[f64; 3]> = matched.iter().map(|(e, _)| out.edge_vec[*e]).collect();
    let reference: Vec<[f64; 3]> = matched.iter().map(|(_, e)| oracle.edges.edge_vec[*e]).collect();
    let magnitude: Vec<[f64; 3]> = matched.iter().map(|(_, e)| oracle.magnitude[*e]).collect();
    let (found, reference, magnitude) = (found.as_flattened(), reference.as_flattened(), magnitude.as_flattened());
    let rounding = rounding(magnitude, dtype);
    let compared = compare_rounded(dtype, Order::Forward, found, reference, magnitude, rounding);
    match compared.reason {
        None => Ok((compared.rel_error, compared.max_abs_error)),
        Some(reason) => {
            let place = compared.worst_index.map(|at| format!(" of {}", name(out, &receiver, matched[at / 3].0)));
            Err(Failure::Wrong {
                reason: format!("`edge_vec`{}: {reason}", place.unwrap_or_default()),
                errors: Some((compared.rel_error, compared.max_abs_error)),
            })
        }
    }
}

/// What rounding alone may add to the norm of all errors: at most 2.5 ε of its magnitude to every component, as the
/// oracle derives, and the same again by half for terms of second order. It matters where atoms lie so far from the
/// origin that the type has few digits left for the vectors between them.
fn rounding(magnitude: &[f64], dtype: Dtype) -> f64 {
    let epsilon = match dtype {
        Dtype::F32 => f64::from(f32::EPSILON),
        Dtype::F64 => f64::EPSILON,
    };
    4.0 * epsilon * magnitude.iter().map(|m| m * m).sum::<f64>().sqrt()
}

/// `edge 7 (3 ← 5 in image [0, 0, 1])`.
fn name(list: &NeighborList<f64>, receiver: &[u32], e: usize) -> String {
    format!("edge {e} ({} ← {} in image {:?})", receiver[e], list.sender[e], list.shift[e])
}

/// The receiver of every edge, if lengths and offsets fit and rows are sorted.
fn receivers(out: &NeighborList<f64>, n_atoms: usize) -> Result<Vec<u32>, String> {
    let n_edges = out.n_edges();
    for (tensor, found, expected) in [
        ("row_ptr", out.row_ptr.len(), n_atoms + 1),
        ("sender_ptr", out.sender_ptr.len(), n_atoms + 1),
        ("shift", out.shift.len(), n_edges),
        ("edge_vec", out.edge_vec.len(), n_edges),
        ("transpose", out.transpose.len(), n_edges),
    ] {
        if found != expected {
            return Err(format!("`{tensor}` has {found} elements, expected {expected}"));
        }
    }
    if let Some(row) = (0..n_atoms).find(|i| out.row_ptr[*i] > out.row_ptr[i + 1]) {
        return Err(format!("`row_ptr` descends from {} to {} at {row}", out.row_ptr[row], out.row_ptr[row + 1]));
    }
    if (out.row_ptr[0], out.row_ptr[n_atoms] as usize) != (0, n_edges) {
        let ends = (out.row_ptr[0], out.row_ptr[n_atoms]);
        return Err(format!("`row_ptr` goes from {} to {}, expected 0 to {n_edges}", ends.0, ends.1));
    }
    let mut receiver = vec![0; n_edges];
    for i in 0..n_atoms {
        receiver[out.row(i)].fill(i as u32);
    }
    for e in 1..n_edges {
        let key = |e: usize| (out.sender[e], out.shift[e]);
        if receiver[e - 1] == receiver[e] && key(e - 1) >= key(e) {
            let how = if key(e - 1) == key(e) { "is listed twice" } else { "is out of order in its row" };
            return Err(format!("{} {how}", name(out, &receiver, e)));
        }
    }
    Ok(receiver)
}

/// The edges of the rows that the oracle looked at, each with the oracle's, if all that must be there are and no others.
fn matched(out: &NeighborList<f64>, receiver: &[u32], oracle: &Oracle) -> Result<Vec<(usize, usize)>, String> {
    let edges = &oracle.edges;
    let mut matched = Vec::with_capacity(edges.n_edges());
    for &i in &oracle.rows {
        let mut there = out.row(i).peekable();
        for e in edges.row(i) {
            let key = (edges.sender[e], edges.shift[e]);
            if let Some(surplus) = there.next_if(|f| (out.sender[*f], out.shift[*f]) < key) {
                return Err(surplus_edge(out, receiver, surplus, oracle.list));
            }
            if let Some(found) = there.next_if(|f| (out.sender[*f], out.shift[*f]) == key) {
                matched.push((found, e));
            } else if !oracle.ambiguous[e] {
                let d = norm(edges.edge_vec[e]);
                return Err(format!("{i} ← {} in image {:?} is missing, at {d} Å", key.0, key.1));
            }
        }
        if let Some(surplus) = there.next() {
            return Err(surplus_edge(out, receiver, surplus, oracle.list));
        }
    }
    Ok(matched)
}

fn surplus_edge(out: &NeighborList<f64>, receiver: &[u32], e: usize, list: List) -> String {
    let (i, j, shift) = (receiver[e], out.sender[e], out.shift[e]);
    let why = if i == j && shift == [0; 3] {
        "an atom and itself are no edge"
    } else if !list.has(i, j, shift) {
        "the half list has its reverse"
    } else {
        "no image of that atom is there: it is not within the cutoff, in another system, or of an open direction"
    };
    format!("{} should not be there: {why}; its vector is {:?}", name(out, receiver, e), out.edge_vec[e])
}

/// Every edge has its exact negative.
fn reversed(out: &NeighborList<f64>, receiver: &[u32]) -> Result<(), String> {
    for e in 0..out.n_edges() {
        let key = (receiver[e], out.shift[e].map(|s| -s));
        let row = out.row(out.sender[e] as usize);
        let at = row.start + out.sender[row.clone()].partition_point(|s| *s < key.0);
        let Some(back) = (at..row.end).find(|b| (out.sender[*b], out.shift[*b]) == key) else {
            return Err(format!("{} is there and its reverse is not", name(out, receiver, e)));
        };
        // NaN is for the comparison of vectors to name.
        let unlike = |c: usize| out.edge_vec[e][c] + out.edge_vec[back][c] != 0.0 && !out.edge_vec[e][c].is_nan();
        if (0..3).any(unlike) {
            return Err(format!(
                "the vector {:?} of {} is not the exact negative of {:?}, that of its reverse",
                out.edge_vec[e],
                name(out, receiver, e),
                out.edge_vec[back]
            ));
        }
    }
    Ok(())
}

/// `sender_ptr` and `transpose` are those of this list.
fn transposed(out: &NeighborList<f64>, receiver: &[u32]) -> Result<(), String> {
    let mut sent = vec![Vec::new(); out.n_atoms()];
    for (e, sender) in out.sender.iter().enumerate() {
        sent[*sender as usize].push(e);
    }
    let mut start = 0;
    for (j, sent) in sent.iter_mut().enumerate() {
        if out.sender_ptr[j] as usize != start {
            return Err(format!("`sender_ptr`[{j}] is {}, expected {start}", out.sender_ptr[j]));
        }
        sent.sort_by_key(|&e| (receiver[e], out.shift[e].map(|s| -s)));
        for (at, &e) in (start..).zip(sent.iter()) {
            if out.transpose[at] as usize != e {
                let expected = name(out, receiver, e);
                return Err(format!("`transpose`[{at}], of sender {j}, is {}, expected {expected}", out.transpose[at]));
            }
        }
        start += sent.len();
    }
    match out.sender_ptr.last() {
        Some(last) if *last as usize != start => Err(format!("`sender_ptr` ends at {last}, expected {start}")),
        _ => Ok(()),
    }
}

fn norm(r: [f64; 3]) -> f64 {
    r.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Whether no list, one of zeros or ones, and constant vectors would fail, unless nothing is certain to be listed or
/// the vectors are all the same constant.
///
/// # Errors
/// What would pass.
pub fn discriminates(oracle: &Oracle, dtype: Dtype) -> Result<(), String> {
    if oracle.n_certain() == 0 {
        return Ok(());
    }
    let (n_atoms, n_edges) = (oracle.edges.n_atoms(), oracle.edges.n_edges());
    let constant = |n_edges: usize, x: u32| NeighborList {
        row_ptr: vec![x; n_atoms + 1],
        sender: vec![x; n_edges],
        shift: vec![[x as i32; 3]; n_edges],
        edge_vec: vec![[f64::from(x); 3]; n_edges],
        sender_ptr: vec![x; n_atoms + 1],
        transpose: vec![x; n_edges],
    };
    for (what, list) in [
        ("an empty list", constant(0, 0)),
        ("a list full of 0", constant(n_edges, 0)),
        ("a list full of 1", constant(n_edges, 1)),
    ] {
        if compare(&list, oracle, dtype).is_ok() {
            return Err(format!("{what} would pass: this case proves nothing"));
        }
    }
    let vectors = oracle.edges.edge_vec.as_flattened();
    let mean = vectors.iter().sum::<f64>() / vectors.len() as f64;
    for constant in [0.0, 1.0, mean, vectors[0]] {
        let list = NeighborList { edge_vec: vec![[constant; 3]; n_edges], ..oracle.edges.clone() };
        if vectors.iter().any(|x| *x != constant) && compare(&list, oracle, dtype).is_ok() {
            return Err(format!("`edge_vec` full of {constant:e} would pass: this case proves nothing"));
        }
    }
    Ok(())
}
