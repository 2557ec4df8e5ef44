//! Which faults a world has, and how often. Every seed draws its own: a run in which everything
//! fails at once hides what only shows when one thing does.

use std::fmt;

use super::random::Random;

/// The faults of one world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Replicas.
    pub replicas: usize,
    /// Edits made at least.
    pub edits: u64,
    /// Mean milliseconds between edits.
    pub edit_ms: u64,
    /// Mean milliseconds between faults.
    pub fault_ms: u64,
    /// A frame takes up to so many milliseconds.
    pub delay_ms_max: u64,
    /// Bytes that fit into a connection one way.
    pub window_bytes: usize,
    /// Connections are reset.
    pub resets: bool,
    /// One side does not learn of a close until it times out.
    pub half_open: bool,
    /// Bytes stop in one direction, or both.
    pub partitions: bool,
    /// Frames in a thousand that are lost.
    pub drop: u64,
    /// Frames in a thousand that arrive twice.
    pub duplicate: u64,
    /// Frames in a thousand that are overtaken.
    pub reorder: u64,
    /// Frames in a thousand that arrive cut off or with a wrong byte.
    pub corrupt: u64,
    /// Replicas crash between two steps, and in the middle of disk operations.
    pub replica_crashes: bool,
    /// The relay does.
    pub relay_crashes: bool,
    /// Crashes lose what was not synced.
    pub power_losses: bool,
    /// Disk operations fail.
    pub disk_errors: bool,
    /// Disks are full for a while.
    pub disk_full: bool,
    /// A replica's file is replaced by an older copy.
    pub replica_restores: bool,
    /// A replica's file is lost for good, and begun anew.
    pub replica_losses: bool,
    /// The relay's file is replaced by an older copy.
    pub relay_restores: bool,
    /// Clocks jump by up to ten years.
    pub clock_jumps: bool,
    /// Devices sleep for thirty days.
    pub suspensions: bool,
    /// Pushes in a thousand refused because something is missing.
    pub refuse_missing: u64,
    /// Pushes in a thousand refused for now.
    pub refuse_later: u64,
    /// Pushes in a thousand refused for ever.
    pub refuse_never: u64,
    /// Pushes in a thousand refused because of their actor.
    pub refuse_actor: u64,
    /// The relay folds documents with this many changes.
    pub compaction: Option<u64>,
    /// Documents that a replica keeps in memory.
    pub documents_loaded_max: usize,
    /// Milliseconds after which a replica unloads a document.
    pub idle_ms: u64,
    /// Some edits append tens of kilobytes.
    pub large_texts: bool,
    /// Somebody appends to plain values, which become texts, and rules come late.
    pub words: bool,
    /// Spaces; not every replica takes part in each.
    pub spaces: usize,
    /// Connections are slow and do not last.
    pub line: Option<Line>,
}

/// A bad line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Bytes a second, each way.
    pub bytes_per_s: u64,
    /// Milliseconds after which a connection is cut, at the latest.
    pub lasts_ms_max: u64,
}

impl Line {
    fn draw(random: &mut Random) -> Option<Self> {
        let bytes_per_s = 1000 * *random.pick(&[2, 5, 10, 40, 200, 1000]).unwrap_or(&40);
        let lasts_ms_max = random.between(1000, 60_000);
        random.chance(400).then_some(Self { bytes_per_s, lasts_ms_max })
    }
}

impl Faults {
    /// Draws the faults of a seed.
    pub fn draw(random: &mut Random) -> Self {
        let mangled = random.chance(350);
        let mut mangling = |per_mille_max| {
            let per_mille = random.between(1, per_mille_max);
            if mangled && random.chance(500) { per_mille } else { 0 }
        };
        let (drop, duplicate) = (mangling(60), mangling(60));
        let (reorder, corrupt) = (mangling(60), mangling(40));
        // Drawn apart, so that the worlds of before are otherwise as they were.
        let line = Line::draw(&mut random.clone());
        let words = random.clone().below(7) < 2;
        let refused = random.chance(400);
        let mut refusal = |per_mille_max| {
            let per_mille = random.between(1, per_mille_max);
            if refused && random.chance(500) { per_mille } else { 0 }
        };
        let (refuse_missing, refuse_later) = (refusal(80), refusal(150));
        let (refuse_never, refuse_actor) = (refusal(40), refusal(40));
        let mut faults = Self {
            replicas: random.between(3, 8) as usize,
            edits: 300,
            edit_ms: random.between(300, 2500),
            fault_ms: random.between(2000, 20_000),
            delay_ms_max: *random.pick(&[2, 50, 400, 2000, 10_000]).unwrap_or(&50),
            window_bytes: *random.pick(&[4 << 10, 64 << 10, 1 << 20]).unwrap_or(&(64 << 10)),
            resets: random.chance(600),
            half_open: random.chance(400),
            partitions: random.chance(500),
            drop,
            duplicate,
            reorder,
            corrupt,
            replica_crashes: random.chance(600),
            relay_crashes: random.chance(600),
            power_losses: random.chance(700),
            disk_errors: random.chance(400),
            disk_full: random.chance(300),
            // Work that was made anew, and then restored from before that, would be made anew again.
            replica_restores: random.chance(250) && refuse_actor == 0,
            replica_losses: random.chance(250),
            relay_restores: random.chance(250),
            clock_jumps: random.chance(400),
            suspensions: random.chance(300),
            refuse_missing,
            refuse_later,
            refuse_never,
            refuse_actor,
            compaction: random.chance(500).then(|| random.between(8, 60)),
            documents_loaded_max: random.between(1, 12) as usize,
            idle_ms: random.between(200, 60_000),
            large_texts: random.chance(400),
            words,
            spaces: random.between(1, 2) as usize,
            line,
        };
        if faults.large_texts {
            // Loading the one large document again and again takes nine tenths of such a world.
            faults.documents_loaded_max = faults.documents_loaded_max.max(12);
            faults.idle_ms = faults.idle_ms.max(60_000);
        }
        faults
    }

    /// Whether connections lose, change or reorder what they carry without closing.
    pub fn mangle(&self) -> bool {
        self.drop + self.duplicate + self.reorder + self.corrupt > 0
    }

    /// Whether pushes are refused for no reason.
    pub fn refuse(&self) -> bool {
        self.refuse_missing + self.refuse_later + self.refuse_never + self.refuse_actor > 0
    }
}

/// As a person needs it to understand a failure: what is on.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} replicas, {} spaces, ", self.replicas, self.spaces)?;
        write!(f, "edit every {} ms, fault every {} ms, ", self.edit_ms, self.fault_ms)?;
        write!(f, "delay up to {} ms, ", self.delay_ms_max)?;
        write!(f, "window {} bytes, ", self.window_bytes)?;
        write!(f, "{} documents loaded, idle {} ms", self.documents_loaded_max, self.idle_ms)?;
        if let Some(Line { bytes_per_s, lasts_ms_max }) = self.line {
            write!(f, ", {bytes_per_s} bytes a second for up to {lasts_ms_max} ms")?;
        }
        let rates = [
            ("drop", self.drop),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
            ("corrupt", self.corrupt),
            ("missing", self.refuse_missing),
            ("later", self.refuse_later),
            ("never", self.refuse_never),
            ("actor reused", self.refuse_actor),
            ("compaction at", self.compaction.unwrap_or(0)),
        ];
        for (name, rate) in rates.iter().filter(|(_, rate)| *rate > 0) {
            write!(f, ", {name} {rate}")?;
        }
        let switches = [
            ("resets", self.resets),
            ("half-open", self.half_open),
            ("partitions", self.partitions),
            ("replica crashes", self.replica_crashes),
            ("relay crashes", self.relay_crashes),
            ("power losses", self.power_losses),
            ("disk errors", self.disk_errors),
            ("disk full", self.disk_full),
            ("replica restores", self.replica_restores),
            ("replica losses", self.replica_losses),
            ("relay restores", self.relay_restores),
            ("clock jumps", self.clock_jumps),
            ("suspensions", self.suspensions),
            ("large texts", self.large_texts),
            ("words", self.words),
        ];
        for (name, _) in switches.iter().filter(|(_, on)| *on) {
            write!(f, ", {name}")?;
        }
        Ok(())
    }
}
