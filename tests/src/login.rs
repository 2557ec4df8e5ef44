//! Logins that fail while people work: devices that several people share, at a relay with tokens.
//!
//! Tokens expire, the login gives none for an hour, people sign out and others sign in, roles are lost
//! and the process ends, all as a seed says. An edit must never be lost, nor sent in the session of
//! somebody else, nor bear another name than that of whoever made it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use automerge::Change;
use automerge::legacy::Key;
use redb::Database;
use redb::backends::InMemoryBackend;
use rejoin::{CollectionName, DocumentId, Identity, Link, SignOutError, SpaceName};
use rejoin_core::wire::{ByeCode, Frame, RefusedClass};
use rejoin_engine::store::Store;
use rejoin_engine::{Content, Edit, EditError, Engine, EngineOptions, Target, Token};
use rejoin_relay::access::{Principal, Rules, TokenError};
use rejoin_relay::{ConnectionId, Relay, RelayOptions};
use serde_json::{Map, json};

use crate::sim::random::Random;

/// What happened in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Edits that were made.
    pub edits: u64,
    /// Those that somebody discarded when they signed out.
    pub discarded: u64,
    /// Those that the relay refused for good, and that are set aside.
    pub set_aside: u64,
    /// Sessions that began.
    pub sessions: u64,
    /// Sessions that a token ended.
    pub shut_out: u64,
    /// Times at which edits waited for somebody who was not signed in.
    pub held: u64,
}

/// Plays one seed.
///
/// # Errors
/// The promise that was broken, with the seed.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut office = Office::new(seed);
    let played = office.play().and_then(|()| office.end());
    played
        .map(|()| office.report)
        .map_err(|broken| format!("{broken}\nagain: cargo xtask sim --logins --seed {seed}"))
}

const USERS: [&str; 3] = ["ann", "bo", "cy"];
const DEVICES: usize = 3;
const DOCUMENTS: u64 = 4;
const STEPS: usize = 120;
const RELAY: &str = "wss://relay.example/sync";

const RULES: &str = r#"
    [token]
    issuer   = "https://login.example"
    audience = "acme"
    keys     = ["key.pub"]

    [[allow]]
    roles = ["staff", "chief"]
    space = "main"
    read  = ["*"]
    write = ["*"]
"#;

/// A device, and who uses it.
struct Device {
    store: Arc<Store>,
    engine: Engine,
    /// Whose login it asks for tokens, if anybody's.
    user: Option<&'static str>,
    session: Option<(ConnectionId, &'static str)>,
}

/// An edit that was made.
struct Made {
    document: DocumentId,
    device: usize,
    /// Who made it; nobody before the first sign-in.
    user: Option<String>,
    is_discarded: bool,
}

struct Office {
    random: Random,
    relay: Relay,
    devices: Vec<Device>,
    made: Vec<Made>,
    connections: u64,
    now: u64,
    /// Until when the login gives nobody a token.
    outage_until: u64,
    /// Users whom the login gives their higher role no more.
    demoted: BTreeSet<&'static str>,
    /// Who the author of each actor is, as its first change says.
    authors: BTreeMap<Vec<u8>, Option<String>>,
    report: Report,
}

impl Office {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut ids = random.fork();
        let mut relay = Relay::open(memory(), RelayOptions::default(), || ids.bytes())
            .expect("a database in memory");
        let rules = Rules::read(RULES).expect("rules that are right");
        relay.handle_rules(Arc::new(rules), false);
        let mut devices = Vec::new();
        for _ in 0..DEVICES {
            let mut ids = random.fork();
            let store = Arc::new(Store::open(memory(), ids.bytes()).expect("a database"));
            let engine = engine(&store, ids);
            devices.push(Device { store, engine, user: None, session: None });
        }
        Self {
            random,
            relay,
            devices,
            made: Vec::new(),
            connections: 0,
            now: 1_000_000,
            outage_until: 0,
            demoted: BTreeSet::new(),
            authors: BTreeMap::new(),
            report: Report::default(),
        }
    }

    fn play(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            let device = self.random.below(DEVICES as u64) as usize;
            match self.random.below(20) {
                0..=8 => self.edit(device)?,
                9..=11 => self.dial(device),
                12 => self.hang_up(device),
                13 => self.sign_in_as_another(device),
                14 => self.sign_out(device)?,
                15 => self.restart(device),
                16 => self.renew(device),
                17 => self.outage_until = self.now + 3_600_000,
                18 => {
                    let user = self.user();
                    if !self.demoted.remove(user) {
                        self.demoted.insert(user);
                    }
                }
                _ => self.wait(3_700_000),
            }
            for _ in 0..self.random.below(4) {
                for device in 0..DEVICES {
                    self.exchange(device)?;
                }
            }
            let some = self.random.below(60_000);
            self.wait(some);
        }
        Ok(())
    }

    /// Everybody signs in wherever their edits wait, until none does.
    fn end(&mut self) -> Result<(), String> {
        self.outage_until = 0;
        self.demoted.clear();
        for _ in 0..4 {
            for user in USERS {
                for device in 0..DEVICES {
                    self.hang_up(device);
                    self.devices[device].user = Some(user);
                    self.dial(device);
                }
                self.settle()?;
            }
        }
        self.check()
    }

    fn settle(&mut self) -> Result<(), String> {
        let mut quiet = 0;
        for _ in 0..2000 {
            let mut was_quiet = true;
            for device in 0..DEVICES {
                was_quiet &= !self.exchange(device)?;
            }
            quiet = if was_quiet { quiet + 1 } else { 0 };
            let is_done = |it: &Device| matches!(it.engine.status().link, Link::Safe | Link::Held);
            if quiet > 3 && self.devices.iter().all(is_done) {
                return Ok(());
            }
            self.wait(500);
        }
        let links: Vec<_> = self.devices.iter().map(|it| it.engine.status().clone()).collect();
        Err(format!("it never settled: {links:?}"))
    }

    fn check(&mut self) -> Result<(), String> {
        for (number, device) in self.devices.iter().enumerate() {
            let status = device.engine.status();
            if status.waiting > 0 {
                return Err(format!("edits wait at device {number} for ever: {status:?}"));
            }
        }
        for (number, made) in self.made.iter().enumerate() {
            let field = format!("e{number}");
            let aside = self.devices[made.device].store.read().and_then(|view| view.set_aside());
            let aside = aside.map_err(|error| error.to_string())?;
            let mut aside = aside.iter().map(|(_, row)| row).filter(|row| {
                row.document == made.document && row.fields.contains(&field) && row.anew.is_none()
            });
            let row = aside.next();
            let aside = row.is_some();
            let mut at_first = None;
            if let Some(row) =
                row.filter(|row| !made.is_discarded && row.reason.contains("discarded"))
            {
                return Err(format!(
                    "edit {number} by {:?} is gone with another's: {row:?}",
                    made.user
                ));
            }
            for (at, device) in self.devices.iter().enumerate() {
                let view = device.store.read().map_err(|error| error.to_string())?;
                let value = view.value(&made.document).map_err(|error| error.to_string())?;
                let value = value.and_then(|row| serde_json::from_slice(&row.json).ok());
                let value: serde_json::Value = value.unwrap_or_default();
                let is_here = value.get(&field).is_some();
                // What is discarded may have been with the relay, whose word of that was lost. Then it is
                // everywhere.
                let expected = match aside && made.is_discarded {
                    true => *at_first.get_or_insert(is_here),
                    false => !aside,
                };
                if is_here != expected {
                    let what = if aside { "set aside, and there" } else { "lost" };
                    return Err(format!(
                        "edit {number} by {:?} at device {} is {what} at {at}: {row:?}",
                        made.user, made.device
                    ));
                }
            }
            self.report.set_aside += u64::from(aside && !made.is_discarded);
            self.report.discarded += u64::from(aside && made.is_discarded);
        }
        Ok(())
    }

    fn edit(&mut self, device: usize) -> Result<(), String> {
        let number = self.made.len();
        let key = self.random.below(DOCUMENTS).to_string();
        let field = format!("e{number}");
        let is_chief = self.random.below(4) == 0;
        let Device { engine, .. } = &mut self.devices[device];
        let signed_in = engine.signed_in().map(|row| row.user.clone());
        let as_chief = signed_in.clone().filter(|_| is_chief);
        let author = as_chief.map(|user| Identity::user(user).with_role("chief"));
        let edit = Edit {
            space: SpaceName::new("main").expect("a name"),
            collection: CollectionName::new("jobs").expect("a name"),
            target: Target::Key(key),
            create: true,
            author,
            batch: None,
            content: Content::Fields(Map::from_iter([(field, json!(true))])),
        };
        let made = engine.turn(self.now, 0, vec![edit]).map_err(|error| error.to_string())?;
        let outcome = made.into_iter().next().expect("one edit").map_err(|it| it.to_string())?;
        let document = outcome.document;
        self.made.push(Made { document, device, user: signed_in.clone(), is_discarded: false });
        self.report.edits += 1;
        // Nobody edits as somebody else than who is signed in.
        if let Some(user) = &signed_in {
            let other = USERS.iter().find(|it| *it != user).expect("there are others");
            let refused = engine.act_as(Some(Identity::user(*other)));
            if !matches!(refused, Err(EditError::SignedIn { .. })) {
                return Err(format!("{user} may act as {other}: {refused:?}"));
            }
        }
        Ok(())
    }

    /// Asks the login for a token and dials with it.
    fn dial(&mut self, device: usize) {
        if self.devices[device].session.is_some() {
            return;
        }
        let first = self.user();
        let user = *self.devices[device].user.get_or_insert(first);
        let Some(token) = self.token(user) else {
            let reason = "the login gives no token".to_owned();
            return self.devices[device].engine.set_signed_out(reason);
        };
        self.connections += 1;
        let id = ConnectionId(self.connections);
        self.relay.handle_connected(self.now, id);
        let Device { engine, session, .. } = &mut self.devices[device];
        engine.want_space(&SpaceName::new("main").expect("a name"));
        engine.handle_connected(self.now, RELAY, Some(token)).expect("the store can be read");
        *session = Some((id, user));
        self.report.sessions += 1;
    }

    /// A token of an hour, or none while the login is out. It is `user roles expiry`.
    fn token(&mut self, user: &'static str) -> Option<Token> {
        if self.now < self.outage_until {
            return None;
        }
        let roles = if self.demoted.contains(user) { "staff" } else { "staff,chief" };
        let expires_s = self.now / 1000 + 3600;
        let mut subject = [0; 32];
        subject[..user.len()].copy_from_slice(user.as_bytes());
        // Not every login says who a token is of where a device can read it.
        let subject = (self.random.below(4) > 0).then_some(subject);
        Some(Token { bytes: format!("{user} {roles} {expires_s}").into_bytes(), subject })
    }

    fn user(&mut self) -> &'static str {
        USERS[self.random.index(USERS.len())]
    }

    fn renew(&mut self, device: usize) {
        let Some((_, user)) = self.devices[device].session else { return };
        if let Some(token) = self.token(user) {
            self.devices[device].engine.renew(token.bytes);
        }
    }

    fn hang_up(&mut self, device: usize) {
        let Device { engine, session, .. } = &mut self.devices[device];
        if let Some((id, _)) = session.take() {
            self.relay.handle_disconnected(id);
            engine.handle_disconnected();
        }
    }

    fn sign_in_as_another(&mut self, device: usize) {
        self.hang_up(device);
        let user = self.user();
        self.devices[device].user = Some(user);
        self.dial(device);
    }

    fn sign_out(&mut self, device: usize) -> Result<(), String> {
        let discard = self.random.below(3) == 0;
        let engine = &mut self.devices[device].engine;
        let user = engine.signed_in().map(|row| row.user.clone());
        let mine = |engine: &Engine| {
            let users = engine.store().read().and_then(|view| view.waiting_users());
            user.as_ref().map_or(0, |user| users.expect("it reads").remove(user).unwrap_or(0))
        };
        let waiting = mine(engine);
        match engine.sign_out(self.now, 0, discard) {
            Ok(()) if waiting > 0 && !discard => {
                return Err(format!("{user:?} is signed out with {waiting} edits"));
            }
            Err(SignOutError::Unsent { edits, .. }) if edits == waiting && !discard => {
                return Ok(());
            }
            Ok(()) => {}
            Err(error) => return Err(error.to_string()),
        }
        if mine(engine) > 0 {
            return Err(format!("edits that {user:?} discarded still wait"));
        }
        for made in self.made.iter_mut().filter(|made| made.device == device && waiting > 0) {
            made.is_discarded |= made.user == user;
        }
        self.hang_up(device);
        self.devices[device].user = None;
        Ok(())
    }

    /// The process ends, and another one begins with the file.
    fn restart(&mut self, device: usize) {
        self.hang_up(device);
        let ids = self.random.fork();
        let device = &mut self.devices[device];
        device.engine = engine(&device.store, ids);
    }

    /// One round trip of a device. Returns whether anything went either way.
    fn exchange(&mut self, device: usize) -> Result<bool, String> {
        let Some((id, user)) = self.devices[device].session else { return Ok(false) };
        let mut any = false;
        let engine = &mut self.devices[device].engine;
        if engine.handle_timeout(self.now).is_err() {
            // The line was silent for too long.
            self.hang_up(device);
            return Ok(true);
        }
        let mut messages = Vec::new();
        while let Some(message) = engine.poll_transmit(self.now).map_err(|it| it.to_string())? {
            messages.push(message);
        }
        for message in messages {
            any = true;
            self.look_at(user, &message)?;
            self.relay.handle_message(id, message);
        }
        self.turn_relay()?;
        loop {
            let messages = self.relay.poll_transmit(self.now, id, 1 << 20);
            if messages.is_empty() {
                break;
            }
            for message in messages {
                any = true;
                if let Ok(Some(Frame::Refused(refused))) = Frame::decode(&message)
                    && refused.class == RefusedClass::Later
                {
                    return Err(format!("{user} asked for what the relay puts off: {refused:?}"));
                }
                let engine = &mut self.devices[device].engine;
                engine.handle_message(&message).map_err(|error| error.to_string())?;
            }
        }
        let engine = &mut self.devices[device].engine;
        while engine.has_messages() {
            engine.turn(self.now, 0, Vec::new()).map_err(|error| error.to_string())?;
        }
        self.report.held += u64::from(engine.status().link == Link::Held);
        let closing = engine.poll_close().cloned();
        if self.relay.poll_close(id).is_some() || closing.is_some() {
            any = true;
            self.hang_up(device);
            if let Some(closing) = closing.filter(|it| it.code == ByeCode::SignIn) {
                self.report.shut_out += 1;
                self.devices[device].engine.set_signed_out(closing.reason);
            }
        }
        Ok(any)
    }

    /// Every change that bears a name goes in a session of whom it names.
    fn look_at(&mut self, user: &str, message: &[u8]) -> Result<(), String> {
        let Ok(Some(Frame::Push(push))) = Frame::decode(message) else { return Ok(()) };
        for chunk in &push.changes {
            let parsed = rejoin_core::change::parse(chunk).map_err(|error| error.to_string())?;
            if parsed.is_genesis() || parsed.is_birth() {
                continue;
            }
            let named = parsed.author().map(|author| Identity::from_author(author).user);
            let key = [push.document.0.as_slice(), parsed.actor().0.as_slice()].concat();
            let author = match parsed.seq() {
                1 => self.authors.entry(key).or_insert(named).clone(),
                _ => self.authors.get(&key).cloned().flatten(),
            };
            if author.as_ref().is_some_and(|author| author != user) {
                return Err(format!("{user} sends what {author:?} made"));
            }
            let change = Change::from_bytes(chunk.to_vec()).map_err(|error| error.to_string())?;
            for op in change.decode().operations {
                let Key::Map(field) = &op.key else { continue };
                let number = field.strip_prefix('e').and_then(|number| number.parse().ok());
                let Some(made) = number.and_then(|number: usize| self.made.get(number)) else {
                    continue;
                };
                if made.user != author {
                    let by = &made.user;
                    return Err(format!("edit {field} is by {by:?}, and bears {author:?}"));
                }
            }
        }
        Ok(())
    }

    fn turn_relay(&mut self) -> Result<(), String> {
        let unix_ms = self.now;
        self.relay.turn(self.now, unix_ms).map_err(|error| error.to_string())?;
        while let Some(sign_in) = self.relay.poll_sign_in() {
            let principal = self.read(&sign_in.token);
            self.relay.handle_signed_in(sign_in.connection, principal);
        }
        self.relay.turn(self.now, unix_ms).map_err(|error| error.to_string())
    }

    fn read(&self, token: &[u8]) -> Result<Principal, TokenError> {
        let token = String::from_utf8(token.to_vec()).map_err(|_| TokenError::Malformed)?;
        let mut parts = token.split(' ');
        let mut part = || parts.next().ok_or(TokenError::Malformed);
        let (user, roles) = (part()?.to_owned(), part()?.split(',').map(str::to_owned).collect());
        let expires_s: u64 = part()?.parse().map_err(|_| TokenError::Malformed)?;
        if expires_s + 60 <= self.now / 1000 {
            return Err(TokenError::Expired);
        }
        let issued_s = Some(expires_s - 3600);
        Ok(Principal { user, roles, device: None, token: None, issued_s, expires_s })
    }

    fn wait(&mut self, ms: u64) {
        self.now += ms;
        self.relay.handle_timeout(self.now);
    }
}

fn engine(store: &Arc<Store>, mut ids: Random) -> Engine {
    let options = EngineOptions::default();
    Engine::new(Arc::clone(store), options, move || ids.bytes()).expect("the store can be read")
}

fn memory() -> Database {
    Database::builder().create_with_backend(InMemoryBackend::new()).expect("memory")
}
