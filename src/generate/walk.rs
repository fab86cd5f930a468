//! One visit's way through the pages: from home, drawn by an intent, bent by the visitor's habits, at his tempo.

use super::intents::{INTENTS, Intent};
use super::pages::{Channel, Detail, PAGES, Page, links};
use super::persona::quirk;
use super::random::{Random, mix, whole};
use crate::types::ClickKind;

#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) at: i64,
    pub(super) page: Page,
    /// What the page's [`Detail`] needs: cents, or a number that names a payee, biller, month or code.
    pub(super) cents: u32,
    pub(super) which: u32,
}

/// What each intent makes of the pages; and at the end, what draws a visitor who has what he wanted.
#[derive(Debug)]
pub(super) struct Pulls([[f64; PAGES]; INTENTS + 1]);

impl Pulls {
    pub(super) fn new() -> Self {
        let mut pulls = [[0.0; PAGES]; INTENTS + 1];
        for intent in Intent::ALL {
            pulls[intent as usize] = intent.pull();
        }
        for (page, pull) in pulls[INTENTS].iter_mut().enumerate() {
            *pull = if super::pages::spec_at(page).gated { 0.0 } else { 1.0 };
        }
        Self(pulls)
    }
}

/// The amounts that a visitor moves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purse {
    /// A customer's usual ones: the medians of transfers and bills.
    Usual { transfer: f64, bill: f64 },
    /// A thief's: a share of what is there.
    Drain { transfer: f64 },
}

#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) random: &'a mut Random,
    pub(super) pulls: &'a Pulls,
    pub(super) channel: Channel,
    /// 1 after a `layout-change`.
    pub(super) layout: usize,
    /// Whose habits: a hash.
    pub(super) habits: u64,
    /// Multiplies every stay.
    pub(super) tempo: f64,
    pub(super) purse: Purse,
    pub(super) at: i64,
    pub(super) steps: Vec<Step>,
}

/// Of one intent; then the visitor gives up.
const STEPS_MAX: usize = 40;
const GIVES_UP: f64 = 0.012;
const TIRES: f64 = 0.06;
const STAYS: f64 = 0.42;
const LOOKS_AWAY: f64 = 0.006;
const FAILS: f64 = 0.015;

impl Walk<'_> {
    pub(super) fn login(&mut self) {
        self.push(Page::Login);
    }

    /// From home through all intents, in their order.
    pub(super) fn go(&mut self, intents: &[Intent]) {
        let mut visited = [0u8; PAGES];
        let mut page = Page::Home;
        self.enter(page, &mut visited);
        for (index, intent) in intents.iter().enumerate() {
            page = self.pursue(*intent, page, &mut visited);
            let is_last = index + 1 == intents.len();
            while is_last && self.random.chance(STAYS) {
                page = self.next_page(INTENTS, page, &visited);
                self.enter(page, &mut visited);
            }
        }
    }

    fn pursue(&mut self, intent: Intent, from: Page, visited: &mut [u8; PAGES]) -> Page {
        let goals = intent.goals();
        let mut page = from;
        for count in 0..STEPS_MAX {
            let tired = if goals.is_empty() && count > 4 { TIRES } else { GIVES_UP };
            if self.random.chance(tired) {
                break;
            }
            page = self.next_page(intent as usize, page, visited);
            self.enter(page, visited);
            if page.spec().gated && page.spec().kind == ClickKind::Action && self.random.chance(FAILS) {
                self.push(Page::Error);
                self.enter(page, visited);
            }
            if goals.contains(&page) {
                break;
            }
        }
        page
    }

    fn next_page(&mut self, pull: usize, from: Page, visited: &[u8; PAGES]) -> Page {
        let links = links(self.channel, from, self.layout);
        let mut weights = [0.0; 16];
        let mut total = 0.0;
        for ((to, link), weight) in links.iter().zip(&mut weights) {
            let place = (self.channel as u64) << 32 | (self.layout as u64) << 24 | (from as u64) << 8 | *to as u64;
            let again = AGAIN[usize::from(visited[*to as usize]).min(AGAIN.len() - 1)];
            *weight = link * self.pulls.0[pull][*to as usize] * again * quirk(self.habits, place);
            total += *weight;
        }
        if total > 0.0 { links[self.random.pick(&weights[..links.len()])].0 } else { Page::Home }
    }

    fn enter(&mut self, page: Page, visited: &mut [u8; PAGES]) {
        visited[page as usize] = visited[page as usize].saturating_add(1);
        self.push(page);
    }

    pub(super) fn push(&mut self, page: Page) {
        let (cents, which) = self.detail(page.spec().detail);
        self.steps.push(Step { at: self.at, page, cents, which });
        let mut stay_s = self.tempo * self.random.lognormal(0.85 * page.spec().dwell_s, 0.6);
        if self.random.chance(LOOKS_AWAY) {
            stay_s += self.tempo * self.random.between(60.0, 900.0);
        }
        self.at += whole(1000.0 * stay_s).max(120);
    }

    fn detail(&mut self, detail: Detail) -> (u32, u32) {
        let random = &mut *self.random;
        let cents = |amount: f64| u32::try_from(whole(100.0 * amount)).unwrap_or(u32::MAX);
        let (transfer, bill) = match self.purse {
            Purse::Usual { transfer, bill } => (random_amount(random, transfer, detail), bill),
            Purse::Drain { transfer } => (transfer * random.between(0.85, 1.0), transfer),
        };
        let mut any = |count: u64| u32::try_from(random.below(count)).unwrap_or(0);
        match detail {
            Detail::None => (0, 0),
            // A handful of friends, the first more often.
            Detail::Transfer | Detail::Payee => (cents(transfer), any(4) * any(3)),
            Detail::Bill => {
                let biller = any(6);
                (cents(bill * (0.4 + 0.3 * f64::from(biller))), biller)
            }
            Detail::Amount => (cents(100.0 * f64::from(1 + any(30))), 0),
            Detail::Month => (0, any(12)),
            Detail::Code => (0, any(4)),
            Detail::Changed => (0, any(3)),
        }
    }
}

/// What a page that was seen so often still draws.
const AGAIN: [f64; 5] = [1.0, 0.55, 0.3, 0.15, 0.06];

fn random_amount(random: &mut Random, median: f64, detail: Detail) -> f64 {
    match detail {
        Detail::Transfer => {
            let amount = random.lognormal(median, 0.9);
            // Half of all amounts are round ones.
            if random.chance(0.5) { super::persona::round(amount, 10.0).max(10.0) } else { amount.max(1.0) }
        }
        Detail::None
        | Detail::Amount
        | Detail::Bill
        | Detail::Payee
        | Detail::Month
        | Detail::Code
        | Detail::Changed => 0.0,
    }
}

/// A payee, a session, a device, an event: hashes as names.
pub(super) fn hash_name(prefix: &str, key: u64, number: u64) -> String {
    format!("{prefix}{:016x}", mix(key, number))
}
