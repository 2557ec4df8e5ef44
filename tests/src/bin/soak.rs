//! Plays a relay's days for hours: `cargo xtask soak --hours N`.

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use rejoin_tests::soak::soak;

#[derive(Parser)]
#[command(
    about = "Kills, stops, backs up and restores a relay, and looks whether anything is lost"
)]
struct Arguments {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    hours: f64,
    /// Decides what happens when
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let Arguments { hours, seed } = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let soaked = soak(folder.path(), Duration::from_secs_f64(hours * 3600.0), seed);
    println!("{soaked}");
    Ok(())
}
