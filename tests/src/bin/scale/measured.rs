//! Processes, with what they used as `/proc` tells.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// What a process took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) time: Duration,
    /// The most memory it had, in bytes.
    pub(crate) memory: u64,
    /// Bytes it gave to the disk.
    pub(crate) written: u64,
}

/// Runs a command to its end, which must be a good one. What it prints is thrown away.
pub(crate) fn run(mut command: Command) -> Result<Used> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let (mut memory, mut written) = (0, 0);
    let status = loop {
        // What is read last misses what the process did in its last moments, which is little.
        memory = self::memory(child.id()).unwrap_or(memory);
        written = self::written(child.id()).unwrap_or(written);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let time = started.elapsed();
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(Used { time, memory, written })
}

/// The most memory a process had so far, in bytes.
pub(crate) fn memory(process: u32) -> Result<u64> {
    Ok(number(&format!("/proc/{process}/status"), "VmHWM:")? * 1024)
}

/// Bytes that a process gave to the disk so far.
pub(crate) fn written(process: u32) -> Result<u64> {
    number(&format!("/proc/{process}/io"), "write_bytes:")
}

fn number(file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("{file} has no {name}"))
}
