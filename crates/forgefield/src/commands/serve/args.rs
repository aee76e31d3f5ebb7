//! What `serve` is asked for.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use ff_ipi::Endpoint;
use ff_spec::Dtype;

use crate::models::PackArgs;
use crate::options::RuntimeChoice;

/// `serve`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("server").required(true).args(["ipi", "unix"]))]
pub struct ServeArgs {
    /// Where the server listens, over TCP.
    #[arg(long, value_name = "HOST:PORT")]
    pub ipi: Option<Endpoint>,
    /// The server's Unix socket: /tmp/ipi_NAME, or a path that begins with /.
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub unix: Option<String>,
    /// The model (safetensors).
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// A file whose first frame has the elements of the atoms and the directions that repeat (extxyz, PDB).
    #[arg(long, value_name = "FILE")]
    pub structure: PathBuf,
    /// Element type of the evaluation.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// How the model is packed.
    #[command(flatten)]
    pub packing: PackArgs,
    /// Seconds to wait for a server that is not there yet.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub wait: f64,
    /// Seconds to wait for a server that has gone without saying EXIT; 0 ends with the connection.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub retry: f64,
    /// Threads of the host [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Where to run; auto is the host.
    #[arg(long, default_value = "auto")]
    pub runtime: RuntimeChoice,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Reads a time; a day is for ever.
fn seconds(text: &str) -> Result<f64, String> {
    let found = text.parse::<f64>().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    found.ok_or_else(|| format!("`{text}` is no time, expected 0 to 86400 seconds"))
}
