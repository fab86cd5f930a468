//! What all of `dce state` works with: where the group stands in a partition, and what the log says of it.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;

use crate::config::{Config, Delivery};
use crate::generate::partition_of;
use crate::kafka::Deadline;
use crate::kafka::admin::Admin;
use crate::kafka::client::ClientSettings;
use crate::kafka::follow::{self, Extent, GroupOffset, Lookup, Visit};
use crate::pipeline::history::History;
use crate::pipeline::log::Key;
use crate::pipeline::logged::Logged;
use crate::pipeline::state;
use crate::types::{CustomerId, ResumeAt};

/// How long the broker may take for one question.
const WAIT: Duration = Duration::from_secs(15);
/// A static member that has stopped leaves after its session timeout, 10 s by default.
const LEAVES_MAX: Duration = Duration::from_secs(20);
/// Between two looks at what changes under way.
const LOOK: Duration = Duration::from_millis(250);
/// Looks at a partition whose worker goes on meanwhile.
const LOOKS_MAX: u32 = 3;

pub(super) struct Desk<'a> {
    pub(super) config: &'a Config,
    pub(super) client: ClientSettings,
    admin: Admin,
    lookup: Lookup,
}

/// Whose records of a log are kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose<'a> {
    Everybodys,
    One(&'a CustomerId),
}

/// One partition at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) partition: i32,
    pub(super) committed: Option<(ResumeAt, History)>,
    /// `None` where the input has no such partition.
    pub(super) input: Option<Extent>,
    pub(super) log: Extent,
    pub(super) logged: Logged,
    /// What of the log and the committed offset cannot be; looked for in everybody's records alone.
    pub(super) fault: Option<String>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(config: &'a Config) -> anyhow::Result<Self> {
        let client = ClientSettings::from(&config.kafka);
        let admin = Admin::new(&client)?;
        let lookup = Lookup::new(&client, config.app.group_id())?;
        Ok(Self { config, client, admin, lookup })
    }

    pub(super) fn group(&self) -> &str {
        self.config.app.group_id()
    }

    pub(super) fn input(&self) -> &str {
        &self.config.topics.clickstream
    }

    pub(super) fn log(&self) -> &str {
        &self.config.topics.state
    }

    /// Of a topic that must be there.
    pub(super) fn partitions(&self, topic: &str) -> anyhow::Result<u32> {
        let found = self.admin.inspector().describe(topic, WAIT)?;
        let found = found
            .with_context(|| format!("topic {topic} does not exist on {}: dce topics create", self.client.bootstrap))?;
        Ok(u32::try_from(found)?)
    }

    /// Waits until the group has no members.
    pub(super) fn wait_for_no_members(&self) -> anyhow::Result<()> {
        let deadline = Deadline::after(LEAVES_MAX);
        let mut is_told = false;
        loop {
            let members = self.admin.group(self.group(), WAIT)?.map(|group| group.members).unwrap_or_default();
            if members.is_empty() {
                return Ok(());
            }
            if deadline.passed() {
                let names: Vec<String> =
                    members.iter().map(|member| format!("{} from {}", member.name, member.host)).collect();
                anyhow::bail!(
                    "the group {} has members ({}): stop the workers by SIGTERM, and wait until they have ended",
                    self.group(),
                    names.join(", ")
                );
            }
            if !std::mem::replace(&mut is_told, true) {
                // Standard error may be closed; that is nothing to end for.
                _ = writeln!(
                    std::io::stderr(),
                    "dce: the group {} still has members: waiting up to {} s for those that have stopped",
                    self.group(),
                    LEAVES_MAX.as_secs()
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    pub(super) fn committed(&self, partitions: &[i32]) -> anyhow::Result<Vec<GroupOffset>> {
        let deadline = Deadline::after(WAIT);
        loop {
            match self.lookup.committed(self.input(), partitions, deadline.remaining()) {
                // A coordinator that has just been found, or has moved, refuses for a moment.
                Err(_) if !deadline.passed() => std::thread::sleep(LOOK),
                answered => return Ok(answered?),
            }
        }
    }

    /// Up to where what is committed ends.
    pub(super) fn extents(&self, topic: &str, partitions: &[i32]) -> anyhow::Result<Vec<Extent>> {
        Ok(self.lookup.extents(topic, partitions, WAIT)?)
    }

    pub(super) fn extent(&self, topic: &str, partition: i32) -> anyhow::Result<Extent> {
        let extents = self.extents(topic, &[partition])?;
        extents.into_iter().next().context("the broker gave no offsets")
    }

    /// A partition as it stands now. Where its worker goes on meanwhile, log and offset may be an epoch apart, and are read
    /// again.
    pub(super) fn snapshot(&self, partition: i32, whose: Whose<'_>) -> anyhow::Result<Snapshot> {
        let mut looks = 1;
        loop {
            let snapshot = self.look(partition, whose)?;
            if snapshot.fault.is_none() || looks == LOOKS_MAX {
                return Ok(snapshot);
            }
            looks += 1;
            std::thread::sleep(LOOK);
        }
    }

    fn look(&self, partition: i32, whose: Whose<'_>) -> anyhow::Result<Snapshot> {
        let before = self.stands(partition)?;
        let log = self.extent(self.log(), partition)?;
        let begun = before.as_ref().map_or(0, |(_, history)| history.begun.0);
        let logged = self.read(log, begun, whose)?;
        let committed = self.stands(partition)?;
        let has_input = u32::try_from(partition)? < self.partitions(self.input())?;
        let input = has_input.then(|| self.extent(self.input(), partition)).transpose()?;
        let fault = match whose {
            Whose::One(_) => None,
            Whose::Everybodys => self.fault(begun, before.as_ref(), committed.as_ref(), &logged),
        };
        Ok(Snapshot { partition, committed, input, log, logged, fault })
    }

    /// `before` and `after`: what was committed before the log was read, and after it.
    fn fault(
        &self,
        begun: i64,
        before: Option<&(ResumeAt, History)>,
        after: Option<&(ResumeAt, History)>,
        logged: &Logged,
    ) -> Option<String> {
        if logged.is_importing() {
            return Some("dce state import was begun and has not ended".to_owned());
        }
        let epoch_of = |stands: Option<&(ResumeAt, History)>| stands.map_or(0, |(_, history)| history.state_epoch);
        let (first, last) = (epoch_of(before), epoch_of(after));
        // Any epoch between the two may be the log's last.
        let epoch = logged.head().epoch.clamp(first.min(last), last);
        let resume = after.map_or(ResumeAt(begun), |(resume, _)| *resume);
        state::contradiction(self.config.delivery, self.log(), epoch, resume, logged)
    }

    /// Where the group stands.
    fn stands(&self, partition: i32) -> anyhow::Result<Option<(ResumeAt, History)>> {
        let Some(committed) = self.committed(&[partition])?.into_iter().next() else { return Ok(None) };
        let GroupOffset { offset, metadata, .. } = committed;
        let history = History::parse(&metadata).with_context(|| {
            format!(
                "{}/{partition}: the group {} has a committed offset ({offset}) that dce did not commit",
                self.input(),
                self.group()
            )
        })?;
        Ok(Some((ResumeAt(offset), history)))
    }

    fn read(&self, log: Extent, begun: i64, whose: Whose<'_>) -> anyhow::Result<Logged> {
        let mut logged = Logged::new(begun, self.config.delivery == Delivery::ExactlyOnce);
        let is_wanted = |key: &[u8]| match (whose, Key::parse(key)) {
            (Whose::One(customer), Ok(Key::Rest(id) | Key::Active(id) | Key::Part(_, id))) => id == customer.as_str(),
            (Whose::One(_), Ok(Key::Head | Key::Import) | Err(_)) | (Whose::Everybodys, _) => true,
        };
        follow::scan(&self.client, self.group(), self.log(), &[log], |message| {
            if let Some(key) = message.key().filter(|key| is_wanted(key)) {
                logged
                    .take(key, message.value())
                    .with_context(|| format!("{}/{}, offset {}", self.log(), log.partition, message.offset()))?;
            }
            anyhow::Ok(Visit::Next)
        })?;
        Ok(logged)
    }
}

/// All partition numbers below.
pub(super) fn numbers(partitions: u32) -> anyhow::Result<Vec<i32>> {
    Ok((0..i32::try_from(partitions)?).collect())
}

/// The partition that Java's default partitioner gives a customer.
pub(super) fn partition_of_customer(customer: &str, partitions: u32) -> anyhow::Result<i32> {
    anyhow::ensure!(partitions > 0, "a topic without partitions");
    Ok(i32::try_from(partition_of(customer.as_bytes(), partitions))?)
}
