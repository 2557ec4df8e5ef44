//! What a process and those it started use, as `/proc` tells.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Ticks a second in `/proc/PID/stat`: what Linux shows programs, whatever it counts with.
const TICKS: u64 = 100;

/// Processor time so far, that of children which have ended included.
pub(crate) fn processor(process: u32) -> Result<Duration> {
    let ticks = family(process)?.iter().map(|member| member.ticks).sum::<u64>();
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Resident memory, in bytes.
pub(crate) fn memory(process: u32) -> Result<u64> {
    let members = family(process)?;
    Ok(members.iter().filter_map(|member| resident(member.process)).sum())
}

struct Member {
    process: u32,
    parent: u32,
    ticks: u64,
}

/// The process and everybody who descends from it.
fn family(process: u32) -> Result<Vec<Member>> {
    let entries = fs::read_dir("/proc").context("there is no /proc to measure processes with")?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut others: Vec<_> = names.filter_map(member).collect();
    let first = others.iter().position(|member| member.process == process);
    let mut family = vec![others.swap_remove(first.context("the server has ended")?)];
    let mut at = 0;
    while let Some(parent) = family.get(at).map(|member| member.process) {
        family.extend(others.extract_if(.., |member| member.parent == parent));
        at += 1;
    }
    Ok(family)
}

/// Nothing if it has ended meanwhile.
fn member(process: u32) -> Option<Member> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may contain anything, parentheses too.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = fields.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
    Some(Member { process, parent: fields.get(1)?.parse().ok()?, ticks })
}

fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let process = std::process::id();
        let before = processor(process).expect("it runs");
        let memory = memory(process).expect("it runs");
        assert!(memory > 1 << 20, "{memory} bytes");
        let started = std::time::Instant::now();
        while processor(process).expect("it runs") < before + Duration::from_millis(20) {
            assert!(started.elapsed() < Duration::from_secs(10), "no time passes for it");
        }
    }
}
