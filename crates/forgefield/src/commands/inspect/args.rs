//! What `inspect` is asked for.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use ff_spec::Dtype;
use serde::Serialize;

use crate::options::Sizes;

/// What a variant is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InspectTarget {
    /// Plain Rust.
    Host,
    /// SPIR-V.
    Vulkan,
    /// CUDA C++, then NVRTC.
    Cuda,
}

/// What is printed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emit {
    /// CUDA C++, or the generated Rust.
    Source,
    /// SPIR-V, disassembled.
    Spirv,
    /// PTX.
    Ptx,
    /// Registers, spills, shared memory, occupancy; FLOPs, bytes and roofline.
    Resources,
}

impl InspectTarget {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            InspectTarget::Host => "host",
            InspectTarget::Vulkan => "vulkan",
            InspectTarget::Cuda => "cuda",
        }
    }
}

impl Emit {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Emit::Source => "source",
            Emit::Spirv => "spirv",
            Emit::Ptx => "ptx",
            Emit::Resources => "resources",
        }
    }
}

/// A CUDA architecture: 90 of `sm_90`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arch(pub u16);

impl FromStr for Arch {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = text.strip_prefix("sm_").and_then(|n| n.parse().ok()).filter(|n| (10..1000).contains(n));
        number.map(Arch).ok_or_else(|| format!("`{text}` is no architecture, expected one such as `sm_90`"))
    }
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The op, or `model`.
    pub op: String,
    /// The file of a model, after `model`.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Atoms that the plan of a model is evaluated for.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub atoms: u64,
    /// Neighbours of each of them [default: as in water within the model's cutoff].
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u64).range(0..=100_000))]
    pub degree: Option<u64>,
    /// The variant.
    #[arg(long)]
    pub variant: Option<String>,
    /// Derivative order: 0 the op itself, 1 its first backward, 2 its second.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub order: u8,
    /// Element type.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// Built-in problem.
    #[arg(long, value_name = "NAME", default_value = "water-512")]
    pub problem: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show the text as help")]
    pub sizes: Sizes,
    /// Launch parameters, `unroll=8,edges_per_tile=16` [default: those of the default configuration].
    #[arg(long, value_name = "K=V", value_delimiter = ',', value_parser = parameter)]
    pub config: Vec<(String, u32)>,
    /// What it is compiled for.
    #[arg(long, default_value = "cuda")]
    pub target: InspectTarget,
    /// CUDA architectures.
    #[arg(long, value_delimiter = ',', default_value = "sm_80,sm_90")]
    pub arch: Vec<Arch>,
    /// What is printed.
    #[arg(long, default_value = "resources")]
    pub emit: Emit,
    /// Compile every variant of the op in every order for CUDA and compare what it takes with this table; ends with 1 on an
    /// error, a spill or a stack frame that is not listed, and on other figures.
    #[arg(long, value_name = "TABLE", group = "committed", conflicts_with_all = ["variant", "order", "config", "emit", "target", "arch", "problem"])]
    pub gate: Option<PathBuf>,
    /// Compare the hashes of what every variant of the op is emitted as, in every order, for CUDA and Vulkan devices, with those of
    /// this file, by which `ops` knows passes that are current; ends with 1 where they differ.
    #[arg(long, value_name = "FILE", group = "committed", conflicts_with_all = ["variant", "order", "config", "emit", "target", "arch", "problem"])]
    pub emitted: Option<PathBuf>,
    /// Compile what standard input says and print what NVRTC does: how the gate uses all cores.
    #[arg(long, hide = true, requires = "gate")]
    pub compile_tasks: bool,
    /// Rewrite the table or the file.
    #[arg(long, requires = "committed")]
    pub update: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

fn parameter(text: &str) -> std::result::Result<(String, u32), String> {
    let pair = text.split_once('=').and_then(|(name, value)| Some((name.trim(), value.trim().parse().ok()?)));
    let pair = pair.filter(|(name, value)| !name.is_empty() && *value > 0);
    let (name, value) =
        pair.ok_or_else(|| format!("`{text}`, expected a parameter and a positive number such as `unroll=4`"))?;
    Ok((name.to_owned(), value))
}
