//! A whole visit, planned at its start: who, from which device, with what money and intent, step by step, until the
//! logout or its absence. Also what follows from it: a companion on the phone, a second look, the next visit.

use std::borrow::Cow;
use std::sync::Arc;

use super::calendar::{self, MINUTE_MS, SECOND_MS};
use super::finance::Finance;
use super::intents::Intent;
use super::pages::{Channel, Page};
use super::persona::{Persona, Segment};
use super::random::{Purpose, Random, mix, real, unit_of, whole};
use super::scenario::World;
use super::takeover::{Takeover, TakeoverKind};
use super::walk::{Pulls, Purse, Step, Walk, hash_name};

/// What the bank keeps of a customer between the visits.
#[derive(Debug, Clone)]
pub(super) struct Customer {
    pub(super) finance: Finance,
    /// How many sessions began, a thief's and an aggregator's included.
    pub(super) sessions: u32,
    /// On web and mobile: until when the own device is in use.
    pub(super) busy_until: [i64; 2],
    recent: Option<(Intent, i64)>,
    last_channel: Channel,
    /// Money was taken, and the owner has not yet seen it.
    robbed: bool,
}

impl Customer {
    pub(super) fn new(persona: &Persona, clock: i64) -> Self {
        Self {
            finance: Finance::new(persona, calendar::day(clock)),
            sessions: 0,
            busy_until: [i64::MIN; 2],
            recent: None,
            last_channel: Channel::Mobile,
            robbed: false,
        }
    }
}

/// Who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Visitor {
    Owner,
    /// The owner again within minutes, on the same channel.
    Again,
    /// The owner on a second device while a first is in use.
    Companion(Channel, Intent),
    /// The how-many-eth visit of the thief.
    Thief(u8),
    /// A service that fetches balances for the owner, with his consent.
    Aggregator,
}

/// A session from beginning to end.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) customer: u32,
    /// From which the ids of its events come.
    pub(super) key: u64,
    pub(super) ordinal: u32,
    pub(super) visitor: Visitor,
    pub(super) intent: Intent,
    pub(super) takeover: Option<TakeoverKind>,
    pub(super) channel: Channel,
    pub(super) device: Arc<str>,
    pub(super) session_id: Option<Arc<str>>,
    pub(super) context: Vec<(&'static str, f64)>,
    /// Of its first event.
    pub(super) traits: Vec<(&'static str, Cow<'static, str>)>,
    pub(super) steps: Vec<Step>,
    /// Whether the customer calls the bank after it.
    pub(super) calls: bool,
}

impl Plan {
    pub(super) fn start(&self) -> i64 {
        self.steps.first().map_or(0, |step| step.at)
    }

    pub(super) fn end(&self) -> i64 {
        self.steps.last().map_or(0, |step| step.at)
    }
}

/// When a visit takes place: on the topic's clock, and on the bank's, which decides about salaries and seasons. They
/// are one but in the demo, where the bank's days fly.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    pub(super) at: i64,
    pub(super) clock: i64,
}

#[derive(Debug)]
pub(super) struct Planner {
    pub(super) seed: u64,
    pub(super) session_id_share: f64,
    /// Multiplies every stay and pause: 1, and less in the demo.
    pub(super) pace: f64,
    pub(super) world: World,
    pub(super) pulls: Pulls,
}

/// Shares and pauses of an owner's habits.
const WITHOUT_LOGIN: [f64; 2] = [0.004, 0.035];
const AUTO_LOGOUT: f64 = 0.55;
const AUTO_LOGOUT_MS: i64 = 5 * MINUTE_MS;
const SECOND_INTENT: f64 = 0.28;
const COMES_AGAIN: f64 = 0.08;
const OTHER_DEVICE: f64 = 0.015;
const APPROVES_BY_PHONE: f64 = 0.3;
const LEFT_OPEN: f64 = 0.008;

impl Planner {
    pub(super) fn persona(&self, customer: u32) -> Persona {
        Persona::new(self.seed, customer, self.session_id_share)
    }

    /// The owner's visit, and who comes beside or after it. `None`: his device is in use until the moment returned.
    pub(super) fn owner(
        &self,
        number: u32,
        customer: &mut Customer,
        persona: &Persona,
        visitor: Visitor,
        when: When,
    ) -> Result<(Plan, Vec<(i64, Visitor)>), i64> {
        let mut random = Random::new(self.seed, Purpose::Session, u64::from(number), u64::from(customer.sessions));
        let channel = match visitor {
            Visitor::Companion(channel, _) => channel,
            Visitor::Again if random.chance(0.85) => customer.last_channel,
            Visitor::Owner | Visitor::Again | Visitor::Thief(_) | Visitor::Aggregator => {
                if random.chance(persona.mobile_share) { Channel::Mobile } else { Channel::Web }
            }
        };
        if when.at <= customer.busy_until[channel as usize] {
            return Err(customer.busy_until[channel as usize] + MINUTE_MS);
        }
        customer.finance.advance(persona, calendar::day(when.clock));
        let intents = self.owners_intents(&mut random, customer, persona, visitor, when.clock);
        let intent = intents[0];
        let companion = matches!(visitor, Visitor::Companion(..));
        let has_login = companion || !random.chance(WITHOUT_LOGIN[channel as usize]);
        let device = persona.device(&mut random, channel, when.clock);
        let purse = Purse::Usual { transfer: persona.transfer_median, bill: persona.bill_median };
        let mut walk = self.walk(&mut random, channel, when, persona.key, persona.tempo, purse);
        if has_login {
            walk.login();
        }
        walk.go(&intents);
        let left_open =
            persona.segment == Segment::Business && channel == Channel::Web && walk.random.chance(LEFT_OPEN);
        if left_open {
            let hours = walk.random.between(3.0, 16.0);
            let until = walk.at + whole(self.pace * hours * real(calendar::HOUR_MS));
            while walk.at < until {
                walk.push(Page::BalanceRefresh);
                walk.at += whole(self.pace * real(walk.random.ms_between(200.0, 400.0)));
            }
        }
        self.leave(&mut walk, persona.logout[channel as usize]);
        let steps = walk.steps;
        let plan =
            self.plan(number, customer, persona, visitor, intent, channel, device, has_login, when, steps, &mut random);
        let mut next = Vec::new();
        let end = plan.end();
        if !companion {
            customer.recent = Some((intent, when.clock));
            customer.last_channel = channel;
            self.companions(&mut random, persona, &plan, &mut next);
            if random.chance(COMES_AGAIN) {
                next.push((end + whole(self.pace * real(random.ms_between(20.0, 1500.0))), Visitor::Again));
            }
        }
        customer.busy_until[channel as usize] = end;
        Ok((plan, next))
    }

    fn owners_intents(
        &self,
        random: &mut Random,
        customer: &mut Customer,
        persona: &Persona,
        visitor: Visitor,
        clock: i64,
    ) -> Vec<Intent> {
        if let Visitor::Companion(_, intent) = visitor {
            return vec![intent];
        }
        if customer.robbed && random.chance(0.75) {
            customer.robbed = false;
            return vec![Intent::ReportFraud];
        }
        let days = |ms: i64| ms * calendar::DAY_MS;
        let recent = customer.recent.filter(|(_, at)| clock - at < days(6)).map(|(intent, _)| intent);
        let poor = customer.finance.is_poor(persona);
        let shock = self.world.shock(clock);
        let first = persona.intent(random, clock, poor, recent, shock);
        let mut intents = vec![first];
        intents.extend(first.then().filter(|(_, share)| random.chance(*share)).map(|(then, _)| then));
        if random.chance(SECOND_INTENT) {
            let second = persona.intent(random, clock, poor, None, shock);
            if !intents.contains(&second) {
                intents.push(second);
                intents.extend(second.then().map(|(then, _)| then));
            }
        }
        intents
    }

    /// A phone that approves what the web asks for, or just a look at the other device.
    fn companions(&self, random: &mut Random, persona: &Persona, plan: &Plan, next: &mut Vec<(i64, Visitor)>) {
        let other = plan.channel.other();
        let has_other = match other {
            Channel::Mobile => persona.mobile_share > 0.03,
            Channel::Web => persona.mobile_share < 0.97,
        };
        if !has_other {
            return;
        }
        let otp = plan.steps.iter().find(|step| step.page == Page::Otp).map(|step| step.at);
        if let Some(at) = otp.filter(|_| other == Channel::Mobile && random.chance(APPROVES_BY_PHONE)) {
            let at = at + whole(self.pace * real(random.ms_between(2.0, 15.0)));
            next.push((at, Visitor::Companion(other, Intent::ApproveWeb)));
        } else if random.chance(OTHER_DEVICE) {
            let at = plan.start() + SECOND_MS + whole(real(plan.end() - plan.start()) * random.unit());
            next.push((at, Visitor::Companion(other, Intent::CheckBalance)));
        }
    }

    /// A thief's visit. `Err`: the customer's device, which he uses, is in use until then.
    pub(super) fn thief(
        &self,
        number: u32,
        customer: &mut Customer,
        persona: &Persona,
        takeover: &Takeover,
        visit: u8,
        when: When,
    ) -> Result<Plan, i64> {
        let mut random = Random::new(self.seed, Purpose::Session, u64::from(number), u64::from(customer.sessions));
        let channel = match takeover.device {
            Some(_) => takeover.channel,
            None => customer.last_channel,
        };
        if takeover.device.is_none() && when.at <= customer.busy_until[channel as usize] {
            return Err(customer.busy_until[channel as usize] + MINUTE_MS);
        }
        customer.finance.advance(persona, calendar::day(when.clock));
        let intents = takeover.intents(visit);
        let transfer = (customer.finance.balance * takeover.greed).max(20.0);
        let device = takeover.device.unwrap_or_else(|| persona.device(&mut random, channel, when.clock));
        let mut walk =
            self.walk(&mut random, channel, when, takeover.habits, takeover.tempo, Purse::Drain { transfer });
        walk.login();
        walk.go(intents);
        self.leave(&mut walk, 0.5);
        let steps = walk.steps;
        let visitor = Visitor::Thief(visit);
        let intent = intents[intents.len() - 1];
        let mut plan =
            self.plan(number, customer, persona, visitor, intent, channel, device, true, when, steps, &mut random);
        plan.takeover = Some(takeover.kind);
        customer.robbed |= plan.steps.iter().any(|step| step.page == Page::TransferSubmit);
        if takeover.device.is_none() {
            customer.busy_until[channel as usize] = plan.end();
        }
        Ok(plan)
    }

    /// An aggregator's visit: the same few pages, a fraction of a second each; now and then the whole history.
    pub(super) fn aggregator(&self, number: u32, customer: &mut Customer, persona: &Persona, when: When) -> Plan {
        let mut random = Random::new(self.seed, Purpose::Session, u64::from(number), u64::from(customer.sessions));
        customer.finance.advance(persona, calendar::day(when.clock));
        let scrapes = random.chance(0.01);
        let pages = if scrapes { 600 + random.below(1200) } else { 1 + random.below(3) };
        let mut steps = Vec::new();
        let mut at = when.at;
        let mut put = |page: Page, random: &mut Random| {
            steps.push(Step { at, page, cents: 0, which: 0 });
            at += random.ms_between(0.12, 0.4);
        };
        for page in [Page::Login, Page::Accounts, Page::Balance] {
            put(page, &mut random);
        }
        for _ in 0..pages {
            put(Page::Transactions, &mut random);
        }
        put(Page::Logout, &mut random);
        let device = mix(persona.key, 400);
        let visitor = Visitor::Aggregator;
        let intent = Intent::CheckBalance;
        let mut plan =
            self.plan(number, customer, persona, visitor, intent, Channel::Web, device, true, when, steps, &mut random);
        plan.calls = false;
        plan
    }

    fn walk<'a>(
        &'a self,
        random: &'a mut Random,
        channel: Channel,
        when: When,
        habits: u64,
        tempo: f64,
        purse: Purse,
    ) -> Walk<'a> {
        Walk {
            random,
            pulls: &self.pulls,
            channel,
            layout: self.world.layout(when.clock),
            habits,
            tempo: tempo * self.pace,
            purse,
            at: when.at,
            steps: Vec::with_capacity(24),
        }
    }

    /// By hand, by the bank's clock, or not at all.
    fn leave(&self, walk: &mut Walk<'_>, by_hand: f64) {
        if walk.random.chance(by_hand) {
            walk.push(Page::Logout);
        } else if walk.random.chance(AUTO_LOGOUT) {
            let last = walk.steps.last().map_or(walk.at, |step| step.at);
            walk.at = last + whole(self.pace * real(AUTO_LOGOUT_MS));
            walk.push(Page::AutoLogout);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a plan is made of; called from three places")]
    fn plan(
        &self,
        number: u32,
        customer: &mut Customer,
        persona: &Persona,
        visitor: Visitor,
        intent: Intent,
        channel: Channel,
        device: u64,
        has_login: bool,
        when: When,
        steps: Vec<Step>,
        random: &mut Random,
    ) -> Plan {
        let ordinal = customer.sessions;
        customer.sessions += 1;
        let key = mix(mix(persona.key, 500), u64::from(ordinal));
        let context = if has_login { customer.finance.snapshot(persona, || random.chance(0.02)) } else { Vec::new() };
        let session_id = persona.has_session_id[channel as usize].then(|| Arc::from(hash_name("s-", key, 0).as_str()));
        let moved: u32 = steps
            .iter()
            .filter(|step| matches!(step.page, Page::TransferSubmit | Page::BillPay))
            .fold(0, |sum: u32, step| sum.saturating_add(step.cents));
        customer.finance.balance -= f64::from(moved) / 100.0;
        let prefix = match channel {
            Channel::Web => "w-",
            Channel::Mobile => "m-",
        };
        let calls = calls(random, persona, customer, intent, &steps);
        Plan {
            customer: number,
            key,
            ordinal,
            visitor,
            intent,
            takeover: None,
            channel,
            device: Arc::from(hash_name(prefix, device, 0).as_str()),
            session_id,
            context,
            traits: traits(persona, channel, device, when.clock),
            steps,
            calls,
        }
    }
}

/// What the first event of a session says of its app.
fn traits(persona: &Persona, channel: Channel, device: u64, clock: i64) -> Vec<(&'static str, Cow<'static, str>)> {
    let one_of = |names: &[&'static str], what: u64| {
        names[usize::try_from(mix(device, what) % names.len() as u64).expect("less than the number of names")]
    };
    let mut traits = vec![("segment", Cow::Borrowed(persona.segment.as_str()))];
    match channel {
        Channel::Web => traits.push(("browser", one_of(&["chrome", "chrome", "firefox", "safari", "edge"], 1).into())),
        Channel::Mobile => {
            // A release every two weeks; devices take it up to two months late.
            let lag_days = whole(60.0 * unit_of(mix(device, 2)) * unit_of(mix(device, 3)));
            let release = (calendar::day(clock) - 18_000 - lag_days) / 14;
            traits.push(("app_version", format!("{}.{}", release / 20, release % 20).into()));
            traits.push(("os", one_of(&["android", "android", "ios"], 4).into()));
        }
    }
    traits
}

/// A call to the call centre within two days: likelier with trouble.
fn calls(random: &mut Random, persona: &Persona, customer: &Customer, intent: Intent, steps: &[Step]) -> bool {
    let count = |page: Page| real(i64::try_from(steps.iter().filter(|step| step.page == page).count()).unwrap_or(0));
    let flag = |yes: bool| if yes { 1.0 } else { 0.0 };
    let trouble = -4.9
        + 2.2 * flag(intent == Intent::CardProblem)
        + 4.0 * flag(intent == Intent::ReportFraud)
        + 1.5 * count(Page::Error).min(2.0)
        + 1.1 * count(Page::Help).min(2.0)
        + 0.7 * count(Page::Faq).min(2.0)
        - 0.8 * flag(count(Page::Chat) > 0.0)
        + 1.4 * flag(customer.finance.is_overdue())
        + 0.9 * flag(persona.segment == Segment::Retired)
        + 1.2 * (unit_of(mix(persona.key, 600)) - 0.5);
    random.chance(1.0 / (1.0 + libm::exp(-trouble)))
}
