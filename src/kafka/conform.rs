//! What each topic must be, and whether it is: facts → what deviates, why that matters, and the command that mends it.
//! No broker is asked here.

use std::fmt;

use super::admin::TopicFacts;
use super::topics::{DAY_MS, Purpose, TopicSpec, WINDOWS_KEPT_MS};
use crate::config::{DriftTopics, Topics};

/// What a topic is to the pipeline, or to the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Clicks,
    Table,
    Live,
    Sessions,
    Rejected,
    State,
    DriftWindows,
    DriftAlerts,
    DriftReferences,
    DriftCustomers,
}

/// For so long each change of an alert is there for receivers that were away.
const ALERTS_KEPT_MS: u64 = 7 * DAY_MS;

impl Role {
    /// The topics of the settings, the input first.
    pub fn of(topics: &Topics) -> Vec<(Self, &str)> {
        let mut roles = vec![(Self::Clicks, topics.clickstream.as_str()), (Self::Table, &topics.embeddings)];
        roles.extend(topics.embeddings_live.iter().map(|name| (Self::Live, name.as_str())));
        roles.extend(topics.sessions.iter().map(|name| (Self::Sessions, name.as_str())));
        roles.extend([(Self::Rejected, topics.rejected.as_str()), (Self::State, &topics.state)]);
        roles
    }

    /// The monitor's topics.
    pub fn of_monitor(topics: &DriftTopics) -> [(Self, &str); 4] {
        [
            (Self::DriftWindows, &topics.windows),
            (Self::DriftAlerts, &topics.alerts),
            (Self::DriftReferences, &topics.references),
            (Self::DriftCustomers, &topics.customers),
        ]
    }

    /// The input and all that the main job writes, as they should be made.
    pub fn specs(topics: &Topics, partitions: usize, replication: Option<i32>, future_max_ms: u64) -> Vec<TopicSpec> {
        let roles = Self::of(topics).into_iter();
        roles.map(|(role, name)| role.spec(name, partitions, replication, future_max_ms)).collect()
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clicks => "clicks",
            Self::Table => "embeddings",
            Self::Live => "live",
            Self::Sessions => "sessions",
            Self::Rejected => "rejected",
            Self::State => "state",
            Self::DriftWindows => "windows",
            Self::DriftAlerts => "alerts",
            Self::DriftReferences => "references",
            Self::DriftCustomers => "customers",
        }
    }

    pub fn is_input(self) -> bool {
        self == Self::Clicks
    }

    /// Those have one partition each: what is in them is in the order of time.
    pub fn is_of_monitor(self) -> bool {
        matches!(self, Self::DriftWindows | Self::DriftAlerts | Self::DriftReferences | Self::DriftCustomers)
    }

    /// As it should be made; of the monitor's whatever the partitions of the others.
    pub fn spec(self, name: &str, partitions: usize, replication: Option<i32>, future_max_ms: u64) -> TopicSpec {
        let purpose = match self {
            Self::Clicks => Purpose::Clicks { future_max_ms },
            Self::Table => Purpose::Table,
            Self::Live => Purpose::Live,
            Self::Sessions | Self::Rejected | Self::DriftCustomers => Purpose::Log,
            Self::State => Purpose::State,
            Self::DriftWindows => Purpose::DriftWindows,
            Self::DriftAlerts => Purpose::Compacted { lag_ms: ALERTS_KEPT_MS },
            Self::DriftReferences => Purpose::Compacted { lag_ms: WINDOWS_KEPT_MS },
        };
        TopicSpec::new(name, if self.is_of_monitor() { 1 } else { partitions }, replication, purpose)
    }
}

/// What a deviation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    Partitions,
    Timestamps,
    Retention,
    CleanUp,
    Replication,
    MessageSize,
    /// The broker does not tell the topic's settings.
    Untold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It works, and may not for ever.
    Look,
    /// It does not work, or gives wrong results.
    Wrong,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    pub aspect: Aspect,
    pub level: Level,
    /// What is so, and what comes of it.
    pub found: String,
    /// What mends it.
    pub fix: String,
}

/// What the pipeline asks of its topics.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// For commands.
    pub bootstrap: &'a str,
    pub brokers: usize,
    /// Of the input, where it is there.
    pub partitions: Option<usize>,
    pub future_max_ms: u64,
    /// How long the input must be kept: what open sessions got may be read from it again.
    pub kept_ms: u64,
    /// The largest record that `dce` sends: `message.max.bytes` of its producer.
    pub record_bytes_max: i64,
}

/// All that deviates.
pub fn deviations(role: Role, facts: &TopicFacts, needs: &Needs<'_>) -> Vec<Deviation> {
    let mut found = Found { name: &facts.name, bootstrap: needs.bootstrap, deviations: Vec::new() };
    found.partitions(role, facts, needs);
    found.replication(facts, needs);
    match &facts.settings {
        Err(why) => {
            let text = format!("its settings are not told ({why}), so they cannot be checked");
            let fix = format!("give this user DescribeConfigs on topic {}", facts.name);
            found.push(Aspect::Untold, Level::Look, text, fix);
        }
        Ok(_) => {
            found.clean_up(role, facts);
            if role.is_input() {
                found.timestamps(facts, needs);
                found.retention(facts, needs);
            } else {
                found.message_size(role, facts, needs);
            }
        }
    }
    found.deviations
}

struct Found<'a> {
    name: &'a str,
    bootstrap: &'a str,
    deviations: Vec<Deviation>,
}

impl Found<'_> {
    fn push(&mut self, aspect: Aspect, level: Level, found: impl Into<String>, fix: impl Into<String>) {
        self.deviations.push(Deviation { aspect, level, found: found.into(), fix: fix.into() });
    }

    /// The command that sets them.
    fn set(&self, settings: impl fmt::Display) -> String {
        format!(
            "kafka-configs.sh --bootstrap-server {} --alter --topic {} --add-config {settings}",
            self.bootstrap, self.name
        )
    }

    fn partitions(&mut self, role: Role, facts: &TopicFacts, needs: &Needs<'_>) {
        if role.is_of_monitor() {
            if facts.partitions != 1 {
                let what = format!(
                    "has {} partitions and must have one: what is in it is in the order of time",
                    facts.partitions
                );
                let fix = format!(
                    "delete it while no monitor runs (kafka-topics.sh --bootstrap-server {} --delete --topic {}), then dce \
                     topics create",
                    self.bootstrap, self.name
                );
                self.push(Aspect::Partitions, Level::Wrong, what, fix);
            }
        } else if let Some(wanted) = needs.partitions
            && wanted != facts.partitions
        {
            let what = format!(
                "has {} partitions, the clickstream {wanted}: records go out to the number they came in by",
                facts.partitions
            );
            if role == Role::State {
                let fix = "the state cannot be keyed anew yet: go back to as many partitions as it has, or begin anew under \
                           another app.id, with a new topics.state and new output topics";
                return self.push(Aspect::Partitions, Level::Wrong, what, fix);
            }
            let fix = format!(
                "delete it where it holds nothing yet (kafka-topics.sh --bootstrap-server {} --delete --topic {}), then dce \
                 topics create; or name a new topic in topics.{}",
                self.bootstrap,
                self.name,
                role.setting()
            );
            self.push(Aspect::Partitions, Level::Wrong, what, fix);
        }
        if facts.leaderless > 0 {
            let what = format!("{} of its partitions have no leader: nothing goes in or out there", facts.leaderless);
            self.push(Aspect::Partitions, Level::Wrong, what, "start the brokers that hold them");
        }
    }

    fn replication(&mut self, facts: &TopicFacts, needs: &Needs<'_>) {
        let (copies, in_sync) = (facts.replication, facts.in_sync);
        let min = facts.number("min.insync.replicas").and_then(|min| usize::try_from(min).ok());
        match min {
            Some(min) if min > copies => {
                let what = format!("min.insync.replicas={min} with {copies} copies: no write can ever be acknowledged");
                self.push(
                    Aspect::Replication,
                    Level::Wrong,
                    what,
                    self.set(format_args!("min.insync.replicas={copies}")),
                );
            }
            Some(min) if min > in_sync => {
                let what = format!("{in_sync} copies are in sync, min.insync.replicas={min}: writes are refused now");
                self.push(Aspect::Replication, Level::Wrong, what, "start the brokers that hold the other copies");
            }
            Some(1) if copies > 1 => {
                let what = format!(
                    "min.insync.replicas=1 with {copies} copies: what one broker alone acknowledged can be lost"
                );
                self.push(Aspect::Replication, Level::Look, what, self.set("min.insync.replicas=2"));
            }
            Some(_) | None => {}
        }
        if copies == 1 && needs.brokers > 1 {
            let what = format!("one copy on {} brokers: it is gone with its broker", needs.brokers);
            let fix = format!(
                "kafka-reassign-partitions.sh --bootstrap-server {} with more replicas for {}",
                self.bootstrap, self.name
            );
            self.push(Aspect::Replication, Level::Look, what, fix);
        }
    }

    fn clean_up(&mut self, role: Role, facts: &TopicFacts) {
        let policy = facts.setting("cleanup.policy");
        let compacts = policy.split(',').any(|part| part.trim() == "compact");
        let deletes = policy.split(',').any(|part| part.trim() == "delete");
        let delete = self.set("cleanup.policy=delete");
        let why = match role {
            Role::Table | Role::DriftAlerts | Role::DriftReferences => {
                return self.newest(role, facts, policy, compacts, deletes);
            }
            Role::State => return self.state(facts, policy, compacts, deletes),
            Role::Clicks => {
                "records that are read again after a crash are not there then, and a worker refuses to start"
            }
            Role::Live => "only the newest record of a customer stays, and readers miss the others",
            Role::Sessions => "only the newest session of a customer stays",
            Role::Rejected => "records without a key are refused, which stops the stream, and older ones of a key go",
            Role::DriftWindows => {
                "only the newest window of a segment stays, and references and thresholds begin anew at each start"
            }
            Role::DriftCustomers => "only the newest of a customer's stays",
        };
        if compacts {
            self.push(Aspect::CleanUp, Level::Wrong, format!("cleanup.policy={policy}: {why}"), delete);
        }
        if role == Role::Live && !compacts {
            self.live_retention(facts);
        }
        let kept_ms = facts.number("retention.ms").and_then(|ms| u64::try_from(ms).ok());
        if let (Role::DriftWindows, false, Some(kept_ms)) = (role, compacts, kept_ms.filter(|ms| *ms < WINDOWS_KEPT_MS))
        {
            let what = format!(
                "retention.ms={kept_ms} ({}): at a start there are no windows from before; ten weeks are right",
                Span(kept_ms)
            );
            self.push(Aspect::CleanUp, Level::Look, what, self.set(format_args!("retention.ms={WINDOWS_KEPT_MS}")));
        }
    }

    fn newest(&mut self, role: Role, facts: &TopicFacts, policy: &str, compacts: bool, deletes: bool) {
        let (what, lag_ms, why) = match role {
            Role::DriftAlerts => {
                let why = "a webhook that was away for longer may miss alerts; a week is right";
                ("alerts that stay open", ALERTS_KEPT_MS, why)
            }
            Role::DriftReferences => {
                let why =
                    "what another pin replaced is forgotten, and a start judges by it no more; ten weeks are right";
                ("pins that stay", WINDOWS_KEPT_MS, why)
            }
            _ => {
                ("customers who stay away", DAY_MS, "a reader that was away for longer misses records; a day is right")
            }
        };
        let lag = format!("min.compaction.lag.ms={lag_ms}");
        if !compacts {
            let what = format!("cleanup.policy={policy}: it grows for ever, or loses {what}");
            let fix = self.set(format_args!("cleanup.policy=compact,{lag}"));
            return self.push(Aspect::CleanUp, Level::Wrong, what, fix);
        }
        if deletes {
            let what = format!("cleanup.policy={policy}: {what} longer than its retention are lost");
            self.push(Aspect::CleanUp, Level::Wrong, what, self.set("cleanup.policy=compact"));
        }
        let found_ms = facts.number("min.compaction.lag.ms").and_then(|ms| u64::try_from(ms).ok());
        if let Some(found_ms) = found_ms.filter(|ms| *ms < lag_ms) {
            let what = format!("min.compaction.lag.ms={found_ms} ({}): {why}", Span(found_ms));
            self.push(Aspect::CleanUp, Level::Look, what, self.set(lag));
        }
    }

    fn state(&mut self, facts: &TopicFacts, policy: &str, compacts: bool, deletes: bool) {
        if deletes {
            let what =
                format!("cleanup.policy={policy}: customers who stay away longer than its retention are forgotten");
            self.push(Aspect::CleanUp, Level::Wrong, what, self.set("cleanup.policy=compact"));
        } else if !compacts {
            let what = format!("cleanup.policy={policy}: it grows for ever, and so does a restart");
            self.push(Aspect::CleanUp, Level::Wrong, what, self.set("cleanup.policy=compact"));
        }
        let segment = facts.number("segment.bytes").and_then(|bytes| u64::try_from(bytes).ok());
        if let Some(bytes) = segment.filter(|bytes| *bytes > SEGMENT_BYTES_MAX) {
            let what = format!(
                "segment.bytes={bytes}: what lies in the last segment is not compacted, and read at each restart"
            );
            self.push(Aspect::CleanUp, Level::Look, what, self.set(format_args!("segment.bytes={}", 64 << 20)));
        }
    }

    fn live_retention(&mut self, facts: &TopicFacts) {
        let Some(kept_ms) = facts.number("retention.ms") else { return };
        if kept_ms < 0 {
            let what = "retention.ms=-1: every embedding is kept for ever, which a stream needs not be";
            self.push(Aspect::CleanUp, Level::Look, what, self.set(format_args!("retention.ms={DAY_MS}")));
        } else if u64::try_from(kept_ms).is_ok_and(|kept_ms| kept_ms < DAY_MS) {
            let what =
                format!("retention.ms={kept_ms}: a reader that was away for longer misses records; a day is right");
            self.push(Aspect::CleanUp, Level::Look, what, self.set(format_args!("retention.ms={DAY_MS}")));
        }
    }

    fn timestamps(&mut self, facts: &TopicFacts, needs: &Needs<'_>) {
        if facts.setting("message.timestamp.type") == "LogAppendTime" {
            return;
        }
        let bound = "message.timestamp.after.max.ms";
        let fix = self.set(format_args!("{bound}={}", needs.future_max_ms));
        let limit = Span(needs.future_max_ms);
        let why = format!("a wrong clock can close every open session; session.future_max is {limit}");
        match facts.number(bound).map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)) {
            Some(ms) if ms <= needs.future_max_ms => {}
            Some(ms) if ms > FOR_EVER_MS => {
                let what = format!("CreateTime and {bound} without a bound: {why}");
                self.push(Aspect::Timestamps, Level::Wrong, what, fix);
            }
            Some(ms) => {
                let what = format!("CreateTime and {bound}={ms} ({}): {why}", Span(ms));
                self.push(Aspect::Timestamps, Level::Wrong, what, fix);
            }
            None => {
                let what = format!("CreateTime, and the broker is too old for {bound}: {why}");
                let fix = self.set("message.timestamp.type=LogAppendTime");
                self.push(Aspect::Timestamps, Level::Wrong, what, fix);
            }
        }
    }

    fn retention(&mut self, facts: &TopicFacts, needs: &Needs<'_>) {
        let why = "what open sessions got is read from it again after a crash, and a worker refuses to start where it is gone";
        let kept = facts.number("retention.ms").and_then(|ms| u64::try_from(ms).ok());
        if let Some(ms) = kept.filter(|ms| *ms < needs.kept_ms) {
            let wanted = Span(needs.kept_ms);
            let what = format!("retention.ms={ms} ({}), and {wanted} are needed: {why}", Span(ms));
            let fix = self.set(format_args!("retention.ms={}", needs.kept_ms));
            self.push(Aspect::Retention, Level::Look, what, fix);
        }
        if let Some(bytes) = facts.number("retention.bytes").filter(|bytes| *bytes >= 0) {
            let what = format!("retention.bytes={bytes}: how long that lasts nobody knows; {why}");
            self.push(Aspect::Retention, Level::Look, what, self.set("retention.bytes=-1"));
        }
    }

    fn message_size(&mut self, role: Role, facts: &TopicFacts, needs: &Needs<'_>) {
        let Some(taken) = facts.number("max.message.bytes").filter(|taken| *taken < needs.record_bytes_max) else {
            return;
        };
        let what = format!(
            "max.message.bytes={taken}, but {} records of up to {} bytes are sent: a larger one stops the stream",
            role.as_str(),
            needs.record_bytes_max
        );
        // The broker counts what surrounds a record too.
        let fix = self.set(format_args!("max.message.bytes={}", needs.record_bytes_max + 65_536));
        self.push(Aspect::MessageSize, Level::Wrong, what, fix);
    }
}

/// Longer than anybody means: Kafka's default is the largest number.
const FOR_EVER_MS: u64 = 1_000 * 365 * DAY_MS;
/// Of the state's topic.
const SEGMENT_BYTES_MAX: u64 = 256 << 20;

impl Role {
    /// Its key in `[topics]`.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Clicks => "clickstream",
            Self::Table => "embeddings",
            Self::Live => "embeddings_live",
            Self::Sessions => "sessions",
            Self::Rejected => "rejected",
            Self::State => "state",
            Self::DriftWindows => "drift_windows",
            Self::DriftAlerts => "drift_alerts",
            Self::DriftReferences => "drift_references",
            Self::DriftCustomers => "drift_customers",
        }
    }
}

/// Milliseconds for people: the largest unit that divides them, as settings write them.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(DAY_MS, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(ms, _)| self.0 >= *ms && self.0.is_multiple_of(*ms)) {
            Some((ms, unit)) => write!(f, "{}{unit}", self.0 / ms),
            None => write!(f, "{}ms", self.0),
        }
    }
}

#[cfg(test)]
#[path = "conform_tests.rs"]
mod tests;
