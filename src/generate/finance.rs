//! A customer's money between the visits: salary in, rent, instalment and daily spending out, a credit card paid on
//! salary day, and an instalment overdue while the account cannot bear it. Moves by whole days.

use super::calendar;
use super::persona::{Persona, Segment};
use super::random::{mix, unit_of};

#[derive(Debug, Clone)]
pub(super) struct Finance {
    pub(super) balance: f64,
    /// What the credit card owes.
    card: f64,
    days_past_due: u16,
    /// The last day that is booked, since 1970.
    booked: i32,
}

impl Finance {
    pub(super) fn new(persona: &Persona, day: i64) -> Self {
        let luck = unit_of(mix(persona.key, 200));
        Self {
            balance: persona.income * (0.2 + 2.5 * luck * luck),
            card: persona.credit_limit * 0.4 * unit_of(mix(persona.key, 201)),
            days_past_due: 0,
            booked: i32::try_from(day).unwrap_or(i32::MAX),
        }
    }

    pub(super) fn advance(&mut self, persona: &Persona, day: i64) {
        while i64::from(self.booked) < day {
            self.booked += 1;
            self.book(persona, i64::from(self.booked));
        }
    }

    fn book(&mut self, persona: &Persona, day: i64) {
        let luck = |what: u64| unit_of(mix(mix(persona.key, what), day.unsigned_abs()));
        let (_, _, day_of_month) = calendar::date(day);
        let is_payday = calendar::days_since_monthly(day, persona.pay_day) == 0;
        if persona.salary > 0.0 && is_payday {
            self.balance += persona.salary * (0.97 + 0.06 * luck(1));
        } else if persona.salary == 0.0 && persona.segment != Segment::Student && luck(2) < 0.2 {
            self.balance += persona.income / 6.0 * (0.3 + 1.4 * luck(3)); // invoices, about six a month
        } else if persona.salary == 0.0 && is_payday {
            self.balance += persona.income; // from the parents
        }
        if is_payday {
            self.balance -= self.card * 0.8;
            self.card *= 0.2;
        }
        if day_of_month == 3 {
            self.balance -= persona.rent;
        }
        // About a third of the fixed costs leaves by bills and transfers that the customer makes himself.
        let daily = (0.72 * persona.income - persona.rent - persona.instalment).max(0.1 * persona.income) / 30.0;
        let months = self.balance / persona.income;
        let thrift = if months < 0.1 {
            0.35
        } else if months < 4.0 {
            1.0
        } else {
            2.5
        };
        let spent = daily * thrift * 2.0 * luck(4) * if calendar::weekday(day) >= 5 { 1.3 } else { 0.9 };
        let by_card = spent * 0.4;
        if self.card + by_card < persona.credit_limit {
            self.card += by_card;
            self.balance -= spent - by_card;
        } else {
            self.balance -= spent;
        }
        if persona.instalment > 0.0 && (day_of_month == 5 || self.days_past_due > 0) {
            if self.balance > persona.instalment {
                self.balance -= persona.instalment;
                self.days_past_due = 0;
            } else {
                self.days_past_due += 1;
            }
        }
    }

    pub(super) fn is_poor(&self, persona: &Persona) -> bool {
        self.balance < 0.08 * persona.income
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.days_past_due > 0
    }

    /// The snapshot that comes with a LOGIN. Customers without salary, card or loan have no such value, and now and then
    /// the source of one is away.
    pub(super) fn snapshot(&self, persona: &Persona, mut is_away: impl FnMut() -> bool) -> Vec<(&'static str, f64)> {
        let cents = |x: f64| super::persona::round(x * 100.0, 1.0) / 100.0;
        let mut context = Vec::with_capacity(5);
        let mut put = |name, known: bool, value: f64| {
            if !is_away() && known {
                context.push((name, value));
            }
        };
        let has_card = persona.credit_limit > 0.0;
        put("balance", true, cents(self.balance));
        put("salary", persona.salary > 0.0, persona.salary);
        put("credit_limit", has_card, persona.credit_limit);
        put("utilisation", has_card, cents(self.card / persona.credit_limit.max(1.0)));
        put("days_past_due", has_card || persona.instalment > 0.0, f64::from(self.days_past_due));
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balances_neither_run_away_nor_sink() {
        let (mut sum, mut overdue, mut negative) = (0.0, 0, 0);
        for customer in 0..300 {
            let persona = Persona::new(1, customer, 0.7);
            let mut finance = Finance::new(&persona, 20_000);
            finance.advance(&persona, 20_365);
            sum += finance.balance / persona.income;
            overdue += i32::from(finance.is_overdue());
            negative += i32::from(finance.balance < 0.0);
            assert!(finance.card <= persona.credit_limit);
        }
        let mean = sum / 300.0;
        assert!((0.3..6.0).contains(&mean), "mean balance in incomes {mean}, overdue {overdue}, negative {negative}");
        assert!(overdue < 45 && negative < 60, "overdue {overdue}, negative {negative}");
    }
}
