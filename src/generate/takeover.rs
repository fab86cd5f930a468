//! A few customers are robbed: a stranger logs in as them. When, how and with which device is a function of the seed and
//! the customer's number. The stream says nothing of it; the labels do.

use super::calendar;
use super::intents::Intent;
use super::pages::Channel;
use super::random::{Purpose, Random, mix, real, whole};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakeoverKind {
    /// In, a new payee, the money out, within two minutes.
    QuickTransfer,
    /// Looks around slowly, on several days, before the money goes.
    LookAround,
    /// Changes where the bank's messages go, and comes back for the money.
    ContactChange,
    /// From the customer's own device, by remote access: nothing but the behaviour differs.
    RemoteAccess,
}

impl TakeoverKind {
    pub(super) const ALL: [Self; 4] = [Self::QuickTransfer, Self::LookAround, Self::ContactChange, Self::RemoteAccess];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::QuickTransfer => "quick_transfer",
            Self::LookAround => "look_around",
            Self::ContactChange => "contact_change",
            Self::RemoteAccess => "remote_access",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Takeover {
    pub(super) kind: TakeoverKind,
    /// When the thief first comes.
    pub(super) at: i64,
    pub(super) channel: Channel,
    /// None: the customer's own.
    pub(super) device: Option<u64>,
    /// The thief's own ways.
    pub(super) habits: u64,
    pub(super) tempo: f64,
    /// How often he comes.
    pub(super) visits: u8,
    /// What share of the balance he takes at a time.
    pub(super) greed: f64,
}

impl Takeover {
    /// The takeover of a customer, if he is among the `share` that suffers one within `horizon_ms` from `start`.
    pub(super) fn of(seed: u64, customer: u32, share: f64, start: i64, horizon_ms: i64) -> Option<Self> {
        let mut random = Random::new(seed, Purpose::Takeover, u64::from(customer), 0);
        if !random.chance(share) {
            return None;
        }
        let at = start + whole(real(horizon_ms) * random.between(0.08, 1.0));
        Some(Self::invent(&mut random, at))
    }

    pub(super) fn invent(random: &mut Random, at: i64) -> Self {
        let kind = TakeoverKind::ALL[random.pick(&[0.35, 0.25, 0.25, 0.15])];
        let habits = mix(random.below(u64::MAX), 0x0074_6869_6566);
        let (tempo, visits) = match kind {
            TakeoverKind::QuickTransfer => (random.between(0.3, 0.7), 1),
            TakeoverKind::LookAround => (random.between(0.9, 1.8), if random.chance(0.5) { 2 } else { 3 }),
            TakeoverKind::ContactChange => (random.between(0.5, 1.1), 2),
            TakeoverKind::RemoteAccess => (random.between(0.8, 1.6), 1),
        };
        Self {
            kind,
            at,
            channel: if random.chance(0.6) { Channel::Web } else { Channel::Mobile },
            device: (kind != TakeoverKind::RemoteAccess).then(|| mix(habits, 5)),
            habits,
            tempo,
            visits,
            greed: random.between(0.25, 0.9),
        }
    }

    /// What he is after on a visit, counted from 0.
    pub(super) fn intents(&self, visit: u8) -> &'static [Intent] {
        let is_last = visit + 1 >= self.visits;
        match self.kind {
            TakeoverKind::QuickTransfer => &[Intent::TransferNewPayee, Intent::Steal],
            TakeoverKind::LookAround if is_last => &[Intent::CheckBalance, Intent::TransferNewPayee, Intent::Steal],
            TakeoverKind::LookAround => &[Intent::Snoop],
            TakeoverKind::ContactChange if is_last => &[Intent::TransferNewPayee, Intent::Steal],
            TakeoverKind::ContactChange => &[Intent::CheckBalance, Intent::Seize],
            TakeoverKind::RemoteAccess => &[Intent::CheckBalance, Intent::TransferNewPayee, Intent::Steal],
        }
    }

    /// When he comes again after a visit that ended at `end`.
    pub(super) fn next_visit(&self, visit: u8, end: i64) -> Option<i64> {
        let luck = super::random::unit_of(mix(self.habits, 40 + u64::from(visit)));
        (visit + 1 < self.visits).then(|| end + calendar::HOUR_MS + whole(luck * real(40 * calendar::HOUR_MS)))
    }
}
