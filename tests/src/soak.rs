//! Days of a relay in little time: it is killed, stopped, backed up, compacted, and loses its disk,
//! devices are lost, and at the end everything that was acknowledged is there.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use crate::processes::{Rejoin, Running};

/// What happened in a soak.
#[derive(Debug, Default)]
pub struct Soak {
    /// Edits that were made, and those of them that are to be there at the end.
    pub edits: usize,
    pub kept: usize,
    /// How often the relay was killed, was stopped, and lost its disk.
    pub kills: usize,
    pub stops: usize,
    pub disks: usize,
    /// Devices that were lost.
    pub devices: usize,
    /// Backups that were taken by hand and found sound.
    pub backups: usize,
    /// How often settings were read again, right ones and wrong ones.
    pub reloads: usize,
    /// How often an operator looked, or had the store compacted.
    pub looks: usize,
}

impl fmt::Display for Soak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { edits, kept, kills, stops, disks, devices, backups, reloads, looks } = self;
        write!(
            f,
            "{edits} edits, {kept} kept to the end; {kills} kills, {stops} stops, {disks} disks \
             lost, {devices} devices lost, {backups} backups by hand, {reloads} reloads, \
             {looks} looks"
        )
    }
}

/// A device: its file, and the keys of the edits that it made.
struct Device {
    file: String,
    made: BTreeSet<String>,
}

struct World<'a> {
    folder: &'a Path,
    rejoin: Rejoin,
    relay: Option<Running>,
    url: String,
    devices: Vec<Device>,
    /// Edits that a relay acknowledged.
    acknowledged: BTreeSet<String>,
    /// Until then the disk stays: backups do not have yet what only a lost device had.
    disk_is_safe_until: Instant,
    soak: Soak,
    next_file: usize,
}

/// Plays for a time in an empty folder.
///
/// # Panics
/// Something that was acknowledged is missing, or a command fails that should not.
pub fn soak(folder: &Path, time: Duration, seed: u64) -> Soak {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World {
        folder,
        rejoin: Rejoin::in_dir(folder),
        relay: None,
        url: String::new(),
        devices: Vec::new(),
        acknowledged: BTreeSet::new(),
        disk_is_safe_until: Instant::now(),
        soak: Soak::default(),
        next_file: 0,
    };
    world.start();
    (0..DEVICES).for_each(|_| world.new_device());
    let begun = Instant::now();
    while begun.elapsed() < time {
        world.step(&mut random);
    }
    world.end();
    world.soak
}

impl World<'_> {
    fn start(&mut self) {
        self.relay = None;
        self.write_settings("");
        let mut relay = Running::start(self.rejoin.command(["relay", "--config", "relay.toml"]));
        let line = relay.line().expect("the relay listens");
        let url = line.strip_prefix("listening on ").expect("an address");
        self.url = url.trim_end_matches("/sync").to_owned();
        self.relay = Some(relay);
    }

    fn write_settings(&self, limits: &str) {
        let settings = format!(
            "listen = \"127.0.0.1:0\"\ndata = \"relay\"\n[backup]\nfolder = \"kept\"\n\
             every = \"1s\"\nfull_every = \"20s\"\nkeep = \"30s\"\n[limits]\n{limits}"
        );
        std::fs::write(self.folder.join("relay.toml"), settings).expect("a file");
    }

    fn new_device(&mut self) {
        self.next_file += 1;
        let file = format!("{}.redb", self.next_file);
        self.devices.push(Device { file, made: BTreeSet::new() });
    }

    fn step(&mut self, random: &mut ChaCha8Rng) {
        let device = random.random_range(0..self.devices.len());
        match random.random_range(0..100) {
            0..55 => self.edit(device),
            55..85 => self.sync(device),
            85..89 => {
                self.relay.as_mut().expect("it runs").kill9();
                self.soak.kills += 1;
                self.start();
            }
            89..91 => {
                let ended = self.relay.as_mut().expect("it runs").terminate();
                assert_eq!(ended, Some(0), "a relay that is told to stop stops in order");
                self.soak.stops += 1;
                self.start();
            }
            91..93 => self.lose_disk(),
            93..94 => self.lose_device(device),
            94..96 => self.back_up(),
            96..98 => self.reload(random),
            _ => self.look(random),
        }
    }

    fn edit(&mut self, device: usize) {
        self.soak.edits += 1;
        let key = format!("job-{}", self.soak.edits);
        let Device { file, made } = &mut self.devices[device];
        self.rejoin.ok(["--replica", file, "set", "jobs", &key, "status=booked"]);
        made.insert(key);
    }

    /// What the relay acknowledges it keeps from then on.
    fn sync(&mut self, device: usize) {
        let Device { file, made } = &self.devices[device];
        self.rejoin.ok(["--replica", file, "sync", &self.url, "--once", "--timeout", "60s"]);
        self.acknowledged.extend(made.iter().cloned());
    }

    /// The relay's folder is gone, and another one is made from the backups.
    fn lose_disk(&mut self) {
        let backups = std::fs::read_dir(self.folder.join("kept")).map_or(0, Iterator::count);
        if Instant::now() < self.disk_is_safe_until || backups == 0 {
            return;
        }
        self.relay.as_mut().expect("it runs").kill9();
        std::fs::remove_dir_all(self.folder.join("relay")).expect("the relay's folder");
        self.rejoin.ok(["backup", "restore", "kept", "--data", "relay"]);
        self.soak.disks += 1;
        self.start();
    }

    /// A device is gone, with all that no relay has.
    fn lose_device(&mut self, device: usize) {
        let Device { file, .. } = self.devices.remove(device);
        std::fs::remove_file(self.folder.join(file)).ok();
        self.new_device();
        self.disk_is_safe_until = Instant::now() + BACKED_UP_WITHIN;
        self.soak.devices += 1;
    }

    fn back_up(&mut self) {
        let file = format!("by-hand-{}.backup", self.soak.backups);
        self.rejoin.ok(["backup", "--data", "relay", &file]);
        self.rejoin.ok(["backup", "verify", &file]);
        std::fs::remove_file(self.folder.join(file)).expect("the backup");
        self.soak.backups += 1;
    }

    /// The operator has other settings read, or some that are wrong.
    fn reload(&mut self, random: &mut ChaCha8Rng) {
        self.write_settings(match random.random_range(0..4) {
            0 => "messages_per_second = 500\n",
            1 => "bytes_per_second = \"1MiB\"\nspace_size = \"1GiB\"\n",
            2 => "graphs = \"8MiB\"\n",
            _ => "space_size = 12\nno such thing",
        });
        let relay = self.relay.as_mut().expect("it runs");
        relay.hang_up();
        assert!(relay.lives());
        self.soak.reloads += 1;
    }

    fn look(&mut self, random: &mut ChaCha8Rng) {
        let asked: &[&str] = match random.random_range(0..5) {
            0 => &["devices"],
            1 => &["spaces"],
            2 => &["documents", "--limit", "5"],
            3 => &["compact"],
            _ => &["connections"],
        };
        self.rejoin.ok([&["admin", "--data", "relay"], asked].concat());
        self.soak.looks += 1;
    }

    /// Everybody syncs until all have the same, and everything is there.
    fn end(&mut self) {
        (0..2).for_each(|_| (0..self.devices.len()).for_each(|device| self.sync(device)));
        let digest = |device: &Device| self.rejoin.ok(["--replica", &device.file, "digest"]);
        let first = digest(&self.devices[0]);
        for device in &self.devices {
            assert_eq!(digest(device), first, "{} differs", device.file);
        }
        let listed = self.rejoin.json(["--replica", &self.devices[0].file, "list", "jobs"]);
        let listed = listed.as_array().expect("a list").iter();
        let there: BTreeSet<_> = listed.filter_map(|job| job["key"].as_str()).collect();
        let missing: Vec<_> =
            self.acknowledged.iter().filter(|key| !there.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "acknowledged and not there: {missing:?}");
        self.soak.kept = there.len();
        let verified = self.rejoin.json(["backup", "verify", "kept"]);
        assert_eq!(verified["findings"].as_array().map(Vec::len), Some(0), "{verified}");
    }
}

const DEVICES: usize = 4;

/// The time after which a backup has what the relay has: one a second, and the time that it takes.
const BACKED_UP_WITHIN: Duration = Duration::from_secs(5);
