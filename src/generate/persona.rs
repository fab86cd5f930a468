//! Who the customers are. A persona is a function of the seed and the customer's number alone, so it is computed when it
//! is needed and costs no memory; and a bank of a hundred customers is the first hundred of one of a million.

use super::calendar;
use super::intents::{Intent, OWN_INTENTS};
use super::pages::Channel;
use super::random::{Purpose, Random, mix, real, unit_of};

/// A group of customers with like habits; the attribute `segment` of a session's first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    Student,
    Salaried,
    Family,
    Retired,
    SelfEmployed,
    Business,
}

impl Segment {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Student => "student",
            Self::Salaried => "salaried",
            Self::Family => "family",
            Self::Retired => "retired",
            Self::SelfEmployed => "self_employed",
            Self::Business => "business",
        }
    }
}

/// What is typical of a segment; the single customer varies around it.
struct Kind {
    segment: Segment,
    share: f64,
    sessions_per_day: f64,
    mobile_share: f64,
    /// Above 1: slower.
    tempo: f64,
    logout_web: f64,
    /// Monthly, the median; 0: none.
    salary: f64,
    salary_share: f64,
    credit_limit: f64,
    loan_share: f64,
    weekend: f64,
    /// What the hours draw: (hour, weight, half its width in hours), beside a little at all waking hours.
    hours: [(f64, f64, f64); 3],
    /// In the order of [`Intent`].
    intents: [f64; OWN_INTENTS],
}

const KINDS: [Kind; 6] = [
    Kind {
        segment: Segment::Student,
        share: 0.14,
        sessions_per_day: 0.85,
        mobile_share: 0.92,
        tempo: 0.75,
        logout_web: 0.35,
        salary: 700.0,
        salary_share: 0.6,
        credit_limit: 500.0,
        loan_share: 0.1,
        weekend: 1.1,
        hours: [(12.5, 1.0, 2.0), (18.5, 1.2, 3.0), (22.5, 1.5, 2.5)],
        intents: [40.0, 5.0, 22.0, 3.0, 6.0, 3.0, 2.0, 2.0, 5.0, 12.0],
    },
    Kind {
        segment: Segment::Salaried,
        share: 0.36,
        sessions_per_day: 0.6,
        mobile_share: 0.72,
        tempo: 0.9,
        logout_web: 0.6,
        salary: 2800.0,
        salary_share: 0.97,
        credit_limit: 3000.0,
        loan_share: 0.35,
        weekend: 0.7,
        hours: [(7.7, 1.4, 1.5), (12.5, 1.1, 1.5), (19.5, 1.6, 3.0)],
        intents: [36.0, 17.0, 13.0, 2.5, 8.0, 3.0, 5.0, 3.0, 4.0, 8.0],
    },
    Kind {
        segment: Segment::Family,
        share: 0.2,
        sessions_per_day: 0.75,
        mobile_share: 0.66,
        tempo: 1.0,
        logout_web: 0.6,
        salary: 3600.0,
        salary_share: 0.95,
        credit_limit: 4000.0,
        loan_share: 0.6,
        weekend: 0.85,
        hours: [(9.0, 1.0, 2.0), (13.5, 0.7, 2.0), (20.8, 2.0, 2.0)],
        intents: [28.0, 26.0, 12.0, 3.0, 6.0, 3.0, 5.0, 5.0, 4.0, 8.0],
    },
    Kind {
        segment: Segment::Retired,
        share: 0.15,
        sessions_per_day: 0.3,
        mobile_share: 0.28,
        tempo: 1.7,
        logout_web: 0.85,
        salary: 1700.0,
        salary_share: 0.98,
        credit_limit: 1500.0,
        loan_share: 0.08,
        weekend: 0.8,
        hours: [(10.0, 2.0, 2.0), (15.5, 1.2, 2.0), (18.0, 0.3, 1.5)],
        intents: [30.0, 22.0, 5.0, 2.0, 9.0, 4.0, 12.0, 1.0, 4.0, 11.0],
    },
    Kind {
        segment: Segment::SelfEmployed,
        share: 0.09,
        sessions_per_day: 0.95,
        mobile_share: 0.55,
        tempo: 0.95,
        logout_web: 0.55,
        salary: 2600.0,
        salary_share: 0.0,
        credit_limit: 5000.0,
        loan_share: 0.4,
        weekend: 0.6,
        hours: [(9.5, 1.3, 2.5), (14.5, 1.0, 3.0), (21.0, 0.9, 2.5)],
        intents: [30.0, 24.0, 12.0, 8.0, 1.0, 2.0, 10.0, 5.0, 3.0, 5.0],
    },
    Kind {
        segment: Segment::Business,
        share: 0.06,
        sessions_per_day: 1.5,
        mobile_share: 0.18,
        tempo: 0.8,
        logout_web: 0.75,
        salary: 9000.0,
        salary_share: 0.0,
        credit_limit: 20_000.0,
        loan_share: 0.5,
        weekend: 0.12,
        hours: [(9.0, 2.0, 1.5), (11.5, 1.2, 2.0), (15.5, 1.5, 2.5)],
        intents: [26.0, 34.0, 8.0, 9.0, 0.5, 1.0, 14.0, 2.0, 3.0, 2.5],
    },
];

#[derive(Debug)]
pub(super) struct Persona {
    /// The customer's own hash, from which habits, devices and payees come.
    pub(super) key: u64,
    pub(super) segment: Segment,
    pub(super) sessions_per_day: f64,
    pub(super) mobile_share: f64,
    pub(super) tempo: f64,
    /// With what share a session ends with LOGOUT by the customer's hand: web, mobile.
    pub(super) logout: [f64; 2],
    /// Whether the app on this channel sends a session id.
    pub(super) has_session_id: [bool; 2],
    /// Monthly; 0: none.
    pub(super) salary: f64,
    /// What comes in over a month, salary or not.
    pub(super) income: f64,
    pub(super) pay_day: i64,
    pub(super) rent: f64,
    pub(super) credit_limit: f64,
    /// Monthly; 0: no loan.
    pub(super) instalment: f64,
    pub(super) transfer_median: f64,
    pub(super) bill_median: f64,
    intents: [f64; OWN_INTENTS],
    weekend: f64,
    hours: [(f64, f64, f64); 4],
    /// The largest weight that an hour can have.
    hours_max: f64,
}

/// What multiplies a weight for one customer: how one differs from another of the same kind.
const QUIRKS: [f64; 8] = [0.25, 0.5, 0.7, 1.0, 1.0, 1.4, 2.0, 3.5];

/// A customer's liking for one thing.
pub(super) fn quirk(habits: u64, thing: u64) -> f64 {
    QUIRKS[(mix(habits, thing) >> 61) as usize]
}

impl Persona {
    pub(super) fn new(seed: u64, customer: u32, session_id_share: f64) -> Self {
        let mut random = Random::new(seed, Purpose::Persona, u64::from(customer), 0);
        let key = mix(mix(seed, 0x6375_7374), u64::from(customer));
        let kind = &KINDS[random.pick(&KINDS.each_ref().map(|kind| kind.share))];
        let income = kind.salary * random.lognormal(1.0, 0.35);
        let salaried = random.chance(kind.salary_share);
        let has_card = random.chance(0.75);
        let has_loan = random.chance(kind.loan_share);
        let mobile_share = if random.chance(0.25) {
            if random.chance(kind.mobile_share) { 1.0 } else { 0.0 }
        } else {
            (kind.mobile_share + random.between(-0.25, 0.25)).clamp(0.02, 0.98)
        };
        let own_hour = random.between(6.5, 23.0);
        let own_weight = if random.chance(0.5) { random.between(1.0, 5.0) } else { 0.0 };
        let mut hours = [(own_hour, own_weight, 0.8); 4];
        hours[..3].copy_from_slice(&kind.hours);
        let mut intents = kind.intents;
        for (index, weight) in (0u64..).zip(&mut intents) {
            *weight *= quirk(key, 1000 + index);
        }
        Self {
            key,
            segment: kind.segment,
            sessions_per_day: (kind.sessions_per_day * random.lognormal(0.85, 0.6)).clamp(0.02, 12.0),
            mobile_share,
            tempo: kind.tempo * random.lognormal(1.0, 0.25),
            logout: [(kind.logout_web + random.between(-0.35, 0.35)).clamp(0.02, 0.98), random.between(0.0, 0.5)],
            has_session_id: [Channel::Web, Channel::Mobile]
                .map(|channel| unit_of(mix(key, 50 + channel as u64)) < session_id_share),
            salary: if salaried { round(income, 10.0) } else { 0.0 },
            income,
            pay_day: [25, 28, 1, 15, 10][random.pick(&[0.4, 0.25, 0.2, 0.1, 0.05])],
            rent: income * random.between(0.2, 0.38),
            credit_limit: if has_card { round(kind.credit_limit * random.lognormal(1.0, 0.5), 100.0) } else { 0.0 },
            instalment: if has_loan { income * random.between(0.05, 0.16) } else { 0.0 },
            transfer_median: (income * 0.03 * random.lognormal(1.0, 0.5)).max(5.0),
            bill_median: (income * 0.025 * random.lognormal(1.0, 0.4)).max(8.0),
            intents,
            weekend: kind.weekend * random.lognormal(1.0, 0.25),
            hours,
            hours_max: 0.15 + hours.iter().map(|(_, weight, _)| weight).sum::<f64>(),
        }
    }

    /// How much a moment draws this customer, beside others: the hour, the weekday, the days after the salary.
    fn draw(&self, ms: i64) -> f64 {
        let hour = calendar::hour(ms);
        let mut draw = if (6.0..24.0).contains(&hour) { 0.15 } else { 0.015 };
        for (peak, weight, width) in self.hours {
            let away = (hour - peak).abs();
            let away = away.min(24.0 - away);
            draw += weight * (1.0 - away / width).max(0.0);
        }
        let day = calendar::day(ms);
        if calendar::weekday(day) >= 5 {
            draw *= self.weekend.min(WEEKEND_MAX);
        }
        draw * if self.salary > 0.0 && calendar::days_since_monthly(day, self.pay_day) < 2 { SALARY_DRAW } else { 1.0 }
    }

    /// The next moment after `from` at which this customer comes by himself; `rate` multiplies his usual rate.
    pub(super) fn next_visit(&self, random: &mut Random, from: i64, rate: f64) -> i64 {
        // The mean of `draw` over the hours: a peak of weight w and half width h has the area w·h.
        let mean = (0.15 * 18.0 + self.hours.iter().map(|(_, weight, width)| weight * width).sum::<f64>()) / 24.0;
        let top = self.hours_max * WEEKEND_MAX.max(1.0) * SALARY_DRAW;
        let per_ms = self.sessions_per_day * rate / real(calendar::DAY_MS) / mean;
        let mut at = from;
        loop {
            at += super::random::whole(random.exponential(1.0 / (per_ms * top))) + 1;
            if random.unit() * top < self.draw(at) {
                return at;
            }
        }
    }

    /// What the owner wants today. `recent` is the intent of the visit before, if it is not long ago.
    pub(super) fn intent(
        &self,
        random: &mut Random,
        ms: i64,
        poor: bool,
        recent: Option<Intent>,
        shock: f64,
    ) -> Intent {
        let day = calendar::day(ms);
        let (_, month, day_of_month) = calendar::date(day);
        let mut weights = self.intents;
        let mut times = |intent: Intent, factor: f64| weights[intent as usize] *= factor;
        if self.salary > 0.0 {
            let since = calendar::days_since_monthly(day, self.pay_day);
            times(Intent::SalaryLook, if since < 2 { 14.0 } else { 0.15 });
            if since < 4 {
                times(Intent::PayBill, 1.6);
            }
        }
        if day_of_month <= 6 {
            times(Intent::PayBill, 1.6);
            times(Intent::StatementDownload, 2.0);
        }
        if month == 1 {
            times(Intent::StatementDownload, 2.0); // for the tax return
        }
        if poor {
            times(Intent::CheckBalance, 1.5);
            times(Intent::TransferFriend, 0.4);
            times(Intent::LoanInquiry, 2.5);
            times(Intent::Browse, 0.6);
        }
        if let Some(recent) = recent.filter(|recent| (*recent as usize) < OWN_INTENTS) {
            times(
                recent,
                match recent {
                    Intent::LoanInquiry => 9.0,
                    Intent::CardProblem => 8.0,
                    Intent::ChangeSettings => 2.0,
                    _ => 1.3,
                },
            );
        }
        times(Intent::CheckBalance, 1.0 + 4.0 * shock);
        times(Intent::TransferNewPayee, 1.0 + 8.0 * shock);
        times(Intent::Browse, 1.0 - 0.8 * shock);
        Intent::ALL[random.pick(&weights)]
    }

    /// A device of this customer: most have one a channel, some a second, and every year or so it is a new one.
    pub(super) fn device(&self, random: &mut Random, channel: Channel, ms: i64) -> u64 {
        let own = mix(self.key, 70 + channel as u64);
        let second = unit_of(mix(own, 1)) < 0.2 && random.chance(0.15);
        let lasts_days = 250.0 + 500.0 * unit_of(mix(own, 2));
        let age = real(calendar::day(ms)) + 1000.0 * unit_of(mix(own, 3 + u64::from(second)));
        mix(own, 10 + 2 * super::random::whole(age / lasts_days).unsigned_abs() + u64::from(second))
    }
}

const WEEKEND_MAX: f64 = 2.0;
const SALARY_DRAW: f64 = 1.8;

/// To the nearest multiple.
pub(super) fn round(x: f64, to: f64) -> f64 {
    libm::round(x / to) * to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_come_at_the_rate_of_the_persona() {
        let mut visits = 0.0;
        let mut expected = 0.0;
        for customer in 0..60 {
            let persona = Persona::new(3, customer, 0.7);
            let mut random = Random::new(3, Purpose::Return, u64::from(customer), 0);
            let end = 90 * calendar::DAY_MS;
            let mut at = persona.next_visit(&mut random, 0, 1.0);
            while at < end {
                visits += 1.0;
                at = persona.next_visit(&mut random, at, 1.0);
            }
            expected += 90.0 * persona.sessions_per_day;
        }
        assert!((visits / expected - 1.0f64).abs() < 0.15, "{visits} visits, {expected} expected");
    }

    #[test]
    fn customers_differ_and_stay_the_same() {
        let persona = |customer| format!("{:?}", Persona::new(1, customer, 0.7));
        assert_eq!(persona(4), persona(4));
        assert_ne!(persona(4), persona(5));
    }
}
