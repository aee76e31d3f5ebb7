//! What `devices` is asked for.

use clap::Args;

/// `devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}
