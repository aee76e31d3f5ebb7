//! `variants.toml`: which combinations of message, filter, radial functions and reduction are rendered.

use ff_spec::fused_message::{FilterKind, Message, Reduction, Variant};
use serde::Deserialize;

use crate::CodegenError;
use crate::nearest::nearest;
use crate::radial::{Radial, RadialKind};
use crate::sources::from_toml;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    axes: Axes,
    combination: Vec<Combination>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Axes {
    message: Vec<Message>,
    filter: Vec<FilterKind>,
    basis: RadialAxis,
    cutoff: RadialAxis,
    reduction: Vec<Reduction>,
}

/// `"bases"`, which is every function of that kind, or a list of names.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RadialAxis {
    All(All),
    Named(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum All {
    Bases,
}

/// A box in the axes; an absent axis stands for all of its values, `basis = []` with `cutoff = []` for none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Combination {
    message: Option<Vec<Message>>,
    filter: Option<Vec<FilterKind>>,
    basis: Option<Vec<String>>,
    cutoff: Option<Vec<String>>,
    reduction: Option<Vec<Reduction>>,
}

/// The variants that a `variants.toml` asks for, sorted by id, each once.
pub fn expand(path: &str, text: &str, radial: &[Radial]) -> Result<Vec<Variant>, CodegenError> {
    let file: File = from_toml(path, text)?;
    let fail = |message: String| CodegenError::Variants { path: path.to_owned(), message };
    let names = |kind| radial.iter().filter(move |r| r.kind == kind).map(|r| r.name.clone()).collect::<Vec<_>>();
    let axis = |axis: &str, given: &RadialAxis, kind| match given {
        RadialAxis::All(All::Bases) => Ok(names(kind)),
        RadialAxis::Named(given) => given.iter().map(|name| known(name, &names(kind), axis).map_err(fail)).collect(),
    };
    let basis_axis = axis("axes.basis", &file.axes.basis, RadialKind::Basis)?;
    let cutoff_axis = axis("axes.cutoff", &file.axes.cutoff, RadialKind::Cutoff)?;

    let mut variants = Vec::new();
    for (index, combination) in file.combination.iter().enumerate() {
        let at = |axis: &str| format!("combination {} {axis}", index + 1);
        let messages =
            pick(&at("message"), combination.message.as_deref(), &file.axes.message, Message::name).map_err(fail)?;
        let filters =
            pick(&at("filter"), combination.filter.as_deref(), &file.axes.filter, FilterKind::name).map_err(fail)?;
        let reductions =
            pick(&at("reduction"), combination.reduction.as_deref(), &file.axes.reduction, Reduction::name)
                .map_err(fail)?;
        let radial = |axis: &str, given: &Option<Vec<String>>, all: &[String]| match given {
            None => Ok(all.to_vec()),
            Some(given) => given.iter().map(|name| known(name, all, &at(axis)).map_err(fail)).collect(),
        };
        let bases = radial("basis", &combination.basis, &basis_axis)?;
        let cutoffs = radial("cutoff", &combination.cutoff, &cutoff_axis)?;
        let pairs: Vec<Option<(String, String)>> = match (bases.is_empty(), cutoffs.is_empty()) {
            (true, true) => vec![None],
            (false, false) => bases.iter().flat_map(|b| cutoffs.iter().map(|c| Some((b.clone(), c.clone())))).collect(),
            _ => {
                return Err(fail(format!(
                    "combination {} has {} bases and {} cutoffs, expected both or neither",
                    index + 1,
                    bases.len(),
                    cutoffs.len()
                )));
            }
        };
        for message in &messages {
            for filter in &filters {
                for reduction in &reductions {
                    for radial in &pairs {
                        let (message, filter, reduction) = (*message, *filter, *reduction);
                        let variant = Variant { message, filter, radial: radial.clone(), reduction };
                        // The id has to say what the variant is: it is how every other crate finds it.
                        if variant.id().parse() != Ok(variant.clone()) {
                            return Err(fail(format!(
                                "combination {}: `{}` does not read back as the variant it names, expected a basis and \
                                 a cutoff (without `_` in its name) for every filter but `tabulated`, which has neither",
                                index + 1,
                                variant.id()
                            )));
                        }
                        variants.push(variant);
                    }
                }
            }
        }
    }
    variants.sort_by_key(Variant::id);
    variants.dedup();
    Ok(variants)
}

fn known(name: &str, all: &[String], at: &str) -> Result<String, String> {
    if all.iter().any(|k| k == name) {
        return Ok(name.to_owned());
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    Err(format!("{at}: unknown name `{name}`, expected one of {}{}", all.join(", "), nearest(name, &all)))
}

fn pick<T: Copy + PartialEq>(
    at: &str,
    given: Option<&[T]>,
    axis: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<Vec<T>, String> {
    let given = given.unwrap_or(axis);
    match given.iter().find(|v| !axis.contains(v)) {
        Some(v) => Err(format!("{at}: `{}` is not on the axis, expected a value that `axes` lists", name(*v))),
        None => Ok(given.to_vec()),
    }
}
