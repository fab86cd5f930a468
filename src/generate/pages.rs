//! The pages and actions of the bank's web site and of its app, and how one leads to another: two graphs over one set of
//! names, with a weight a link. What a customer wants (`intents.rs`) bends the weights.

use crate::types::ClickKind;

/// What an event says beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    None,
    /// `amount`, in the bank's currency.
    Amount,
    /// `amount` and `payee`.
    Transfer,
    /// `amount` and `biller`.
    Bill,
    /// `payee`.
    Payee,
    /// `month` of a statement.
    Month,
    /// `code` of an error.
    Code,
    /// `changed`: which setting.
    Changed,
}

/// The name, what it is, how many seconds it holds a reader, and its detail.
#[derive(Debug)]
pub(super) struct PageSpec {
    pub(super) name: &'static str,
    pub(super) kind: ClickKind,
    pub(super) dwell_s: f64,
    pub(super) detail: Detail,
    /// Only who wants it goes there: never by chance.
    pub(super) gated: bool,
}

const fn page(name: &'static str, dwell_s: f64) -> PageSpec {
    PageSpec { name, kind: ClickKind::PageView, dwell_s, detail: Detail::None, gated: false }
}

const fn step(name: &'static str, dwell_s: f64) -> PageSpec {
    PageSpec { name, kind: ClickKind::PageView, dwell_s, detail: Detail::None, gated: true }
}

const fn action(name: &'static str, dwell_s: f64, detail: Detail) -> PageSpec {
    PageSpec { name, kind: ClickKind::Action, dwell_s, detail, gated: true }
}

const fn act(name: &'static str, dwell_s: f64) -> PageSpec {
    PageSpec { name, kind: ClickKind::Action, dwell_s, detail: Detail::None, gated: false }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Page {
    Login,
    Logout,
    AutoLogout,
    Home,
    Accounts,
    Balance,
    Transactions,
    TransactionDetail,
    TransactionSearch,
    SpendingReport,
    Payments,
    Bills,
    BillDetail,
    BillScan,
    BillPay,
    BillDone,
    Payees,
    PayeeAdd,
    PayeeSaved,
    QuickTransfer,
    TransferForm,
    TransferReview,
    Otp,
    TransferSubmit,
    TransferDone,
    Cards,
    CardDetail,
    CardBlock,
    CardReplace,
    CardDispute,
    CardLimit,
    Statements,
    StatementDownload,
    Loans,
    LoanOffer,
    LoanCalculator,
    LoanApply,
    Savings,
    Products,
    ProductDetail,
    Settings,
    ContactDetails,
    ContactChange,
    PasswordChange,
    Notifications,
    NotificationChange,
    Limits,
    LimitChange,
    Security,
    Devices,
    DeviceTrust,
    Messages,
    MessageRead,
    Help,
    Faq,
    Chat,
    BranchFinder,
    FraudReport,
    Approvals,
    Approve,
    BalanceRefresh,
    Error,
}

pub(super) const PAGES: usize = 62;

/// In the order of [`Page`].
const SPECS: [PageSpec; PAGES] = [
    PageSpec { name: "login", kind: ClickKind::Login, dwell_s: 1.5, detail: Detail::None, gated: true },
    PageSpec { name: "logout", kind: ClickKind::Logout, dwell_s: 0.0, detail: Detail::None, gated: true },
    PageSpec { name: "auto_logout", kind: ClickKind::Logout, dwell_s: 0.0, detail: Detail::None, gated: true },
    page("home", 5.0),
    page("accounts", 6.0),
    page("balance", 6.0),
    page("transactions", 13.0),
    page("transaction_detail", 7.0),
    act("transaction_search", 7.0),
    page("spending_report", 18.0),
    page("payments", 5.0),
    page("bills", 8.0),
    step("bill_detail", 12.0),
    action("bill_scan", 15.0, Detail::None),
    action("bill_pay", 4.0, Detail::Bill),
    step("bill_done", 4.0),
    page("payees", 7.0),
    action("payee_add", 26.0, Detail::None),
    action("payee_saved", 3.0, Detail::Payee),
    step("quick_transfer", 12.0),
    step("transfer_form", 20.0),
    step("transfer_review", 8.0),
    step("otp", 13.0),
    action("transfer_submit", 3.0, Detail::Transfer),
    step("transfer_done", 4.0),
    page("cards", 7.0),
    page("card_detail", 9.0),
    action("card_block", 6.0, Detail::None),
    action("card_replace", 18.0, Detail::None),
    action("card_dispute", 28.0, Detail::Amount),
    action("card_limit", 11.0, Detail::Amount),
    page("statements", 8.0),
    action("statement_download", 4.0, Detail::Month),
    page("loans", 11.0),
    page("loan_offer", 22.0),
    act("loan_calculator", 16.0),
    action("loan_apply", 40.0, Detail::Amount),
    page("savings", 11.0),
    page("products", 9.0),
    page("product_detail", 17.0),
    page("settings", 7.0),
    page("contact_details", 9.0),
    action("contact_change", 28.0, Detail::Changed),
    action("password_change", 24.0, Detail::None),
    page("notifications", 7.0),
    action("notification_change", 5.0, Detail::Changed),
    page("limits", 7.0),
    action("limit_change", 10.0, Detail::Amount),
    page("security", 8.0),
    page("devices", 7.0),
    action("device_trust", 5.0, Detail::None),
    page("messages", 9.0),
    page("message_read", 14.0),
    page("help", 12.0),
    page("faq", 18.0),
    act("chat", 45.0),
    page("branch_finder", 14.0),
    action("fraud_report", 50.0, Detail::Amount),
    step("approvals", 5.0),
    action("approve", 3.0, Detail::None),
    act("balance_refresh", 2.0),
    PageSpec { name: "error", kind: ClickKind::PageView, dwell_s: 4.0, detail: Detail::Code, gated: true },
];

pub(super) fn spec_at(index: usize) -> &'static PageSpec {
    &SPECS[index]
}

impl Page {
    pub(super) fn spec(self) -> &'static PageSpec {
        &SPECS[self as usize]
    }
}

/// Where the bank is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Channel {
    Web,
    Mobile,
}

impl Channel {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Mobile => "mobile",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Web => Self::Mobile,
            Self::Mobile => Self::Web,
        }
    }
}

/// Where a page leads, and with what weight; `layout` 1 is that after a `layout-change`.
pub(super) fn links(channel: Channel, page: Page, layout: usize) -> &'static [(Page, f64)] {
    match (channel, layout) {
        (Channel::Web, 0) => web(page),
        (Channel::Mobile, 0) => mobile(page),
        (Channel::Web, _) => {
            if page == Home {
                &HOME_WEB_NEW
            } else {
                web(page)
            }
        }
        (Channel::Mobile, _) => {
            if page == Home {
                &HOME_MOBILE_NEW
            } else {
                mobile(page)
            }
        }
    }
}

use Page::{
    Accounts, Approvals, Approve, Balance, BalanceRefresh, BillDetail, BillDone, BillPay, BillScan, Bills,
    BranchFinder, CardBlock, CardDetail, CardDispute, CardLimit, CardReplace, Cards, Chat, ContactChange,
    ContactDetails, DeviceTrust, Devices, Faq, FraudReport, Help, Home, LimitChange, Limits, LoanApply, LoanCalculator,
    LoanOffer, Loans, MessageRead, Messages, NotificationChange, Notifications, Otp, PasswordChange, PayeeAdd,
    PayeeSaved, Payees, Payments, ProductDetail, Products, QuickTransfer, Savings, Security, Settings, SpendingReport,
    StatementDownload, Statements, TransactionDetail, TransactionSearch, Transactions, TransferDone, TransferForm,
    TransferReview, TransferSubmit,
};

/// The new home pages lead through one hub for money, and show no transactions.
const HOME_WEB_NEW: [(Page, f64); 7] =
    [(Payments, 4.0), (Accounts, 3.0), (Cards, 1.5), (Products, 2.0), (Settings, 1.5), (Messages, 1.0), (Help, 1.0)];
const HOME_MOBILE_NEW: [(Page, f64); 7] = [
    (Payments, 4.0),
    (Accounts, 3.0),
    (SpendingReport, 2.0),
    (Cards, 1.5),
    (Products, 1.5),
    (Settings, 1.5),
    (Help, 1.0),
];

#[rustfmt::skip]
fn web(page: Page) -> &'static [(Page, f64)] {
    match page {
        Home => &[(Accounts, 4.0), (Transactions, 1.5), (Payments, 2.5), (Cards, 1.5), (Statements, 1.0), (Loans, 0.8),
            (Savings, 0.7), (Products, 0.8), (Settings, 1.0), (Messages, 1.0), (Help, 0.5), (Approvals, 1.0)],
        Accounts => &[(Balance, 4.0), (Transactions, 3.0), (Statements, 1.0), (Savings, 0.8), (Home, 0.6), (Payments, 1.0)],
        Balance => &[(Transactions, 3.0), (Accounts, 1.5), (Home, 1.0), (Payments, 1.0), (BalanceRefresh, 0.3)],
        Transactions => &[(TransactionDetail, 3.0), (TransactionSearch, 1.2), (SpendingReport, 0.5), (Accounts, 1.0), (Home, 1.0), (Statements, 0.6)],
        TransactionDetail => &[(Transactions, 3.0), (CardDispute, 1.0), (FraudReport, 1.0), (Home, 0.5)],
        TransactionSearch => &[(Transactions, 1.0), (TransactionDetail, 3.0)],
        SpendingReport => &[(Transactions, 2.0), (Home, 1.0), (Savings, 0.6)],
        Payments => &[(Bills, 2.0), (Payees, 2.0), (TransferForm, 2.5), (Home, 0.8), (Limits, 0.3)],
        Bills => &[(BillDetail, 5.0), (Payments, 1.0), (Home, 0.6)],
        BillDetail => &[(Otp, 2.0), (BillPay, 1.0), (Bills, 0.8)],
        BillPay => &[(BillDone, 1.0)],
        BillDone => &[(Bills, 1.5), (Home, 1.0), (Accounts, 0.8)],
        Payees => &[(TransferForm, 3.0), (PayeeAdd, 1.0), (Payments, 0.7), (Home, 0.4)],
        PayeeAdd => &[(Otp, 1.5), (PayeeSaved, 1.5)],
        PayeeSaved => &[(TransferForm, 2.5), (Payees, 1.0)],
        QuickTransfer | TransferForm => &[(TransferReview, 5.0), (Payees, 0.5), (Balance, 0.3)],
        TransferReview => &[(Otp, 4.0), (TransferSubmit, 1.0), (TransferForm, 0.6)],
        Otp => &[(TransferSubmit, 4.0), (BillPay, 4.0), (PayeeSaved, 2.0), (LimitChange, 2.0), (ContactChange, 2.0), (PasswordChange, 1.0)],
        TransferSubmit => &[(TransferDone, 1.0)],
        TransferDone => &[(Home, 1.5), (Accounts, 1.0), (TransferForm, 0.5), (Transactions, 0.8)],
        Cards => &[(CardDetail, 4.0), (CardLimit, 0.8), (CardBlock, 1.5), (Home, 0.7)],
        CardDetail => &[(CardBlock, 2.0), (CardDispute, 1.5), (CardLimit, 1.0), (Transactions, 1.5), (Cards, 1.0)],
        CardBlock => &[(CardReplace, 3.0), (Help, 1.0), (Chat, 1.0), (Cards, 1.0)],
        CardReplace | CardDispute => &[(Cards, 1.0), (Home, 0.8), (Help, 0.7), (Messages, 0.5)],
        CardLimit => &[(Cards, 1.0), (CardDetail, 1.0)],
        Statements => &[(StatementDownload, 5.0), (Accounts, 0.8), (Home, 0.8)],
        StatementDownload => &[(StatementDownload, 1.5), (Statements, 2.0), (Home, 1.0)],
        Loans => &[(LoanOffer, 3.0), (LoanCalculator, 2.5), (Home, 0.8)],
        LoanOffer => &[(LoanCalculator, 3.0), (LoanApply, 0.7), (Loans, 1.0), (Faq, 0.4)],
        LoanCalculator => &[(LoanCalculator, 1.5), (LoanOffer, 1.5), (LoanApply, 0.7), (Home, 0.5)],
        LoanApply => &[(Messages, 1.0), (Home, 1.0)],
        Savings => &[(ProductDetail, 1.5), (TransferForm, 0.7), (Accounts, 1.0), (Home, 0.7)],
        Products => &[(ProductDetail, 4.0), (Loans, 0.7), (Savings, 1.0), (Home, 0.8)],
        ProductDetail => &[(Products, 3.0), (Faq, 0.6), (Home, 0.7), (Chat, 0.2)],
        Settings => &[(ContactDetails, 1.5), (Notifications, 1.5), (Limits, 1.2), (Security, 1.5), (Home, 0.6)],
        ContactDetails => &[(ContactChange, 1.5), (Otp, 0.5), (Settings, 1.2), (Home, 0.4)],
        ContactChange => &[(Settings, 1.0), (ContactDetails, 1.0), (Security, 0.8), (Home, 0.5)],
        PasswordChange => &[(Security, 1.0), (Home, 1.0)],
        Notifications => &[(NotificationChange, 3.0), (Settings, 1.0)],
        NotificationChange => &[(NotificationChange, 1.0), (Settings, 1.5), (Home, 0.5)],
        Limits => &[(Otp, 1.0), (LimitChange, 1.5), (Settings, 1.0), (Payments, 0.6)],
        LimitChange => &[(Limits, 1.0), (Payments, 1.0), (Home, 0.6)],
        Security => &[(PasswordChange, 1.5), (Devices, 1.2), (Settings, 1.0), (FraudReport, 1.0)],
        Devices => &[(DeviceTrust, 1.0), (Security, 1.2), (Home, 0.4)],
        DeviceTrust => &[(Devices, 1.0), (Security, 1.0), (Home, 0.6)],
        Messages => &[(MessageRead, 4.0), (Home, 1.0)],
        MessageRead => &[(Messages, 2.0), (Home, 1.0), (Products, 0.4)],
        Help => &[(Faq, 3.0), (Chat, 1.0), (BranchFinder, 0.6), (Home, 0.6)],
        Faq => &[(Faq, 1.0), (Help, 1.5), (Chat, 0.6), (Home, 0.7)],
        Chat => &[(Home, 1.0), (Help, 0.5), (Messages, 0.5)],
        BranchFinder => &[(Help, 0.7), (Home, 1.0)],
        FraudReport => &[(PasswordChange, 1.5), (CardBlock, 1.0), (Chat, 1.0), (Home, 0.7)],
        Approvals => &[(Approve, 5.0), (Home, 0.5)],
        Approve => &[(Approvals, 0.5), (Home, 1.0)],
        BalanceRefresh => &[(Balance, 1.0), (BalanceRefresh, 0.5)],
        Page::Login | Page::Logout | Page::AutoLogout | Page::Error | BillScan => &[(Home, 1.0)],
    }
}

/// The app has tabs: home, payments, cards and more; it shows the balance at once and has shortcuts.
#[rustfmt::skip]
fn mobile(page: Page) -> &'static [(Page, f64)] {
    match page {
        Home => &[(Balance, 4.0), (Transactions, 3.0), (QuickTransfer, 1.5), (Payments, 2.0), (Cards, 1.5), (Settings, 1.0),
            (SpendingReport, 0.7), (Messages, 0.8), (Accounts, 1.0), (Loans, 0.4), (Products, 0.6), (Approvals, 1.5)],
        Accounts => &[(Balance, 3.0), (Savings, 1.0), (Statements, 1.0), (Home, 1.0)],
        Balance => &[(BalanceRefresh, 1.0), (Transactions, 3.0), (Home, 1.5), (SpendingReport, 0.5)],
        Transactions => &[(TransactionDetail, 3.5), (SpendingReport, 0.8), (TransactionSearch, 0.5), (Home, 1.5)],
        TransactionDetail => &[(Transactions, 3.0), (CardDispute, 0.8), (FraudReport, 1.0), (QuickTransfer, 0.3)],
        TransactionSearch => &[(Transactions, 1.0), (TransactionDetail, 2.0)],
        SpendingReport => &[(Transactions, 1.5), (Home, 1.5), (Savings, 0.4)],
        Payments => &[(QuickTransfer, 2.5), (Payees, 2.0), (BillScan, 1.5), (Bills, 1.5), (Home, 0.8)],
        Bills => &[(BillDetail, 4.0), (BillScan, 1.5), (Payments, 0.8)],
        BillScan => &[(BillDetail, 1.0)],
        BillDetail => &[(BillPay, 3.0), (Otp, 0.7), (Bills, 0.6)],
        BillPay => &[(BillDone, 1.0)],
        BillDone => &[(Home, 1.5), (Bills, 0.8), (Balance, 0.8)],
        Payees => &[(TransferForm, 3.0), (PayeeAdd, 1.0), (Payments, 0.8)],
        PayeeAdd => &[(PayeeSaved, 2.0), (Otp, 1.0)],
        PayeeSaved => &[(TransferForm, 3.0), (Payees, 0.6)],
        QuickTransfer | TransferForm => &[(TransferReview, 5.0), (Payees, 0.6), (Home, 0.3)],
        TransferReview => &[(TransferSubmit, 4.0), (Otp, 1.0), (TransferForm, 0.4)],
        Otp => &[(TransferSubmit, 4.0), (BillPay, 4.0), (PayeeSaved, 2.0), (LimitChange, 2.0), (ContactChange, 2.0), (PasswordChange, 1.0)],
        TransferSubmit => &[(TransferDone, 1.0)],
        TransferDone => &[(Home, 2.0), (Balance, 1.0), (QuickTransfer, 0.4), (Transactions, 0.5)],
        Cards => &[(CardDetail, 3.0), (CardBlock, 2.0), (CardLimit, 0.8), (Home, 0.8)],
        CardDetail => &[(Transactions, 1.5), (CardBlock, 2.0), (CardDispute, 1.0), (CardLimit, 1.0), (Cards, 1.0)],
        CardBlock => &[(CardReplace, 2.5), (Chat, 1.5), (Cards, 1.0)],
        CardReplace | CardDispute => &[(Cards, 1.0), (Home, 1.0), (Chat, 0.5)],
        CardLimit => &[(CardDetail, 1.0), (Cards, 1.0)],
        Statements => &[(StatementDownload, 4.0), (Accounts, 1.0), (Home, 0.7)],
        StatementDownload => &[(Statements, 1.5), (StatementDownload, 0.7), (Home, 1.0)],
        Loans => &[(LoanCalculator, 3.0), (LoanOffer, 2.0), (Home, 1.0)],
        LoanOffer => &[(LoanApply, 0.6), (LoanCalculator, 2.0), (Loans, 1.0)],
        LoanCalculator => &[(LoanCalculator, 2.0), (LoanOffer, 1.5), (LoanApply, 0.5), (Home, 0.6)],
        LoanApply => &[(Home, 1.0), (Messages, 0.6)],
        Savings => &[(QuickTransfer, 0.6), (ProductDetail, 1.0), (Home, 1.2)],
        Products => &[(ProductDetail, 3.5), (Loans, 0.8), (Home, 1.0)],
        ProductDetail => &[(Products, 2.0), (Home, 1.0), (Chat, 0.3)],
        Settings => &[(Notifications, 2.0), (Security, 1.5), (ContactDetails, 1.0), (Limits, 0.8), (Statements, 0.8), (Help, 0.8), (Home, 0.8)],
        ContactDetails => &[(ContactChange, 1.5), (Settings, 1.2)],
        ContactChange => &[(ContactDetails, 0.8), (Settings, 1.2), (Home, 0.5)],
        PasswordChange => &[(Security, 1.0), (Home, 0.8)],
        Notifications => &[(NotificationChange, 4.0), (Settings, 1.0)],
        NotificationChange => &[(NotificationChange, 1.5), (Settings, 1.0), (Home, 0.6)],
        Limits => &[(LimitChange, 2.0), (Otp, 0.7), (Settings, 1.0)],
        LimitChange => &[(Limits, 1.0), (Payments, 1.0), (Home, 0.8)],
        Security => &[(Devices, 1.5), (PasswordChange, 1.2), (Settings, 1.0), (FraudReport, 1.0)],
        Devices => &[(DeviceTrust, 1.2), (Security, 1.2)],
        DeviceTrust => &[(Devices, 0.8), (Home, 1.0), (Security, 0.6)],
        Messages => &[(MessageRead, 4.0), (Home, 1.2)],
        MessageRead => &[(Messages, 1.5), (Home, 1.2), (Products, 0.4)],
        Help => &[(Chat, 2.0), (Faq, 2.0), (BranchFinder, 1.0), (Home, 0.8)],
        Faq => &[(Help, 1.5), (Chat, 0.8), (Faq, 0.7)],
        Chat => &[(Home, 1.0), (Help, 0.4)],
        BranchFinder => &[(Home, 1.0), (BranchFinder, 0.5)],
        FraudReport => &[(CardBlock, 1.5), (PasswordChange, 1.0), (Chat, 1.5), (Home, 0.6)],
        Approvals => &[(Approve, 6.0), (Home, 0.4)],
        Approve => &[(Approvals, 0.6), (Home, 1.0)],
        BalanceRefresh => &[(Balance, 1.5), (BalanceRefresh, 0.8), (Home, 0.5)],
        Page::Login | Page::Logout | Page::AutoLogout | Page::Error => &[(Home, 1.0)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_order_of_the_pages() {
        assert_eq!(Page::Error as usize, PAGES - 1);
        for (page, name) in [(Home, "home"), (Otp, "otp"), (Chat, "chat"), (Page::Error, "error"), (Loans, "loans")] {
            assert_eq!(page.spec().name, name);
        }
    }

    #[test]
    fn every_page_leads_to_one_that_needs_no_intent() {
        // So that a walk that has what it wanted can always go on.
        for channel in [Channel::Web, Channel::Mobile] {
            let mut seen = vec![Home];
            let mut next = 0;
            while next < seen.len() {
                let from = seen[next];
                next += 1;
                let to = links(channel, from, 0);
                assert!(!to.is_empty(), "{from:?}");
                for (page, weight) in to {
                    assert!(*weight > 0.0);
                    if !seen.contains(page) {
                        seen.push(*page);
                    }
                }
            }
            assert!(seen.len() > 45, "{channel:?} reaches {} pages", seen.len());
        }
    }
}
