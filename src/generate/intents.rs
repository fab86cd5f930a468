//! What a visit to the bank is for: the pages that lead there, those that fulfil it, and the one that tells it best.
//! The last three are a thief's, who walks the same pages.

use super::pages::{PAGES, Page};
use Page::{
    Accounts, Approvals, Approve, Balance, BalanceRefresh, BillDetail, BillDone, BillPay, BillScan, Bills,
    BranchFinder, CardBlock, CardDetail, CardDispute, CardLimit, CardReplace, Cards, Chat, ContactChange,
    ContactDetails, DeviceTrust, Devices, Faq, FraudReport, Help, LimitChange, Limits, LoanApply, LoanCalculator,
    LoanOffer, Loans, MessageRead, Messages, NotificationChange, Notifications, Otp, PasswordChange, PayeeAdd,
    PayeeSaved, Payees, Payments, ProductDetail, Products, QuickTransfer, Savings, Security, Settings, SpendingReport,
    StatementDownload, Statements, TransactionDetail, TransactionSearch, Transactions, TransferDone, TransferForm,
    TransferReview, TransferSubmit,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Intent {
    CheckBalance,
    PayBill,
    TransferFriend,
    TransferNewPayee,
    SalaryLook,
    CardProblem,
    StatementDownload,
    LoanInquiry,
    ChangeSettings,
    Browse,
    /// Approves on the phone what was entered on the web.
    ApproveWeb,
    /// Finds that money is gone.
    ReportFraud,
    /// What follows when a card is blocked.
    ReplaceCard,
    Steal,
    Snoop,
    Seize,
}

/// Those that an owner has of his own accord: the first ones.
pub(super) const OWN_INTENTS: usize = 10;
pub(super) const INTENTS: usize = 16;

impl Intent {
    pub(super) const ALL: [Self; INTENTS] = [
        Self::CheckBalance,
        Self::PayBill,
        Self::TransferFriend,
        Self::TransferNewPayee,
        Self::SalaryLook,
        Self::CardProblem,
        Self::StatementDownload,
        Self::LoanInquiry,
        Self::ChangeSettings,
        Self::Browse,
        Self::ApproveWeb,
        Self::ReportFraud,
        Self::ReplaceCard,
        Self::Steal,
        Self::Snoop,
        Self::Seize,
    ];

    /// The name that labels a visit of this intent.
    pub(super) fn telling(self) -> &'static str {
        match self {
            Self::CheckBalance => Balance,
            Self::PayBill => BillPay,
            Self::TransferFriend | Self::Steal => TransferSubmit,
            Self::TransferNewPayee => PayeeAdd,
            Self::SalaryLook => Transactions,
            Self::CardProblem => CardBlock,
            Self::StatementDownload => StatementDownload,
            Self::LoanInquiry => LoanCalculator,
            Self::ChangeSettings => Settings,
            Self::Browse => ProductDetail,
            Self::ApproveWeb => Approve,
            Self::ReportFraud => FraudReport,
            Self::ReplaceCard => CardReplace,
            Self::Snoop => Accounts,
            Self::Seize => ContactChange,
        }
        .spec()
        .name
    }

    /// Any of these fulfils it; none: it ends when the visitor tires.
    #[rustfmt::skip]
    pub(super) fn goals(self) -> &'static [Page] {
        match self {
            Self::CheckBalance => &[Balance],
            Self::PayBill => &[BillDone],
            Self::TransferFriend | Self::Steal => &[TransferDone],
            Self::TransferNewPayee => &[PayeeSaved],
            Self::SalaryLook => &[Transactions],
            Self::CardProblem => &[CardBlock],
            Self::ReplaceCard => &[CardReplace, CardDispute, Chat],
            Self::StatementDownload => &[StatementDownload],
            Self::LoanInquiry => &[LoanCalculator],
            Self::ChangeSettings => &[ContactChange, NotificationChange, LimitChange, PasswordChange],
            Self::Browse => &[ProductDetail],
            Self::ApproveWeb => &[Approve],
            Self::ReportFraud => &[FraudReport],
            Self::Snoop => &[],
            Self::Seize => &[ContactChange],
        }
    }

    /// What goes on once it is fulfilled, and how often.
    pub(super) fn then(self) -> Option<(Self, f64)> {
        match self {
            Self::TransferNewPayee => Some((Self::TransferFriend, 0.9)),
            Self::CardProblem => Some((Self::ReplaceCard, 0.7)),
            Self::CheckBalance
            | Self::PayBill
            | Self::TransferFriend
            | Self::SalaryLook
            | Self::StatementDownload
            | Self::LoanInquiry
            | Self::ChangeSettings
            | Self::Browse
            | Self::ApproveWeb
            | Self::ReportFraud
            | Self::ReplaceCard
            | Self::Steal
            | Self::Snoop
            | Self::Seize => None,
        }
    }

    /// The pages on the way.
    #[rustfmt::skip]
    fn path(self) -> &'static [Page] {
        match self {
            Self::CheckBalance => &[Accounts, Balance, BalanceRefresh],
            Self::PayBill => &[Payments, Bills, BillDetail, BillScan, Otp, BillPay, BillDone],
            Self::TransferFriend | Self::Steal => &[Payments, Payees, QuickTransfer, TransferForm, TransferReview, Otp, TransferSubmit, TransferDone],
            Self::TransferNewPayee => &[Payments, Payees, PayeeAdd, Otp, PayeeSaved],
            Self::SalaryLook => &[Accounts, Transactions, TransactionDetail, SpendingReport],
            Self::CardProblem => &[Cards, CardDetail, CardBlock],
            Self::ReplaceCard => &[Cards, CardReplace, CardDispute, Help, Chat],
            Self::StatementDownload => &[Accounts, Statements, StatementDownload],
            Self::LoanInquiry => &[Loans, LoanOffer, LoanCalculator, LoanApply, Products],
            Self::ChangeSettings =>
                &[Settings, ContactDetails, ContactChange, Notifications, NotificationChange, Limits, LimitChange, Security, PasswordChange, CardLimit],
            Self::Browse => &[Products, ProductDetail, Savings, Messages, MessageRead, Help, Faq, BranchFinder, SpendingReport],
            Self::ApproveWeb => &[Approvals, Approve],
            Self::ReportFraud => &[Transactions, TransactionDetail, Security, FraudReport, PasswordChange, CardBlock, Chat],
            Self::Snoop =>
                &[Accounts, Balance, Transactions, TransactionSearch, Statements, StatementDownload, Cards, CardDetail, Loans, Savings,
                  Settings, ContactDetails, Limits, Payees, Payments, Security, Devices],
            Self::Seize => &[Settings, Security, Devices, DeviceTrust, ContactDetails, ContactChange, Otp, Notifications, NotificationChange],
        }
    }

    /// How much each page draws who has this intent.
    pub(super) fn pull(self) -> [f64; PAGES] {
        let mut pull = [0.2; PAGES];
        for (page, pull) in pull.iter_mut().enumerate() {
            if super::pages::spec_at(page).gated {
                *pull = 0.0;
            }
        }
        for page in self.path() {
            pull[*page as usize] = 6.0;
        }
        for page in self.goals() {
            pull[*page as usize] = 9.0;
        }
        pull
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_intent_has_its_place_and_a_telling_page_on_its_way() {
        for (index, intent) in Intent::ALL.into_iter().enumerate() {
            assert_eq!(intent as usize, index);
            let names: Vec<&str> = intent.path().iter().map(|page| page.spec().name).collect();
            assert!(names.contains(&intent.telling()), "{intent:?}");
        }
    }
}
