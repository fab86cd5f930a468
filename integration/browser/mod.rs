//! The monitor's page in a headless Chromium, driven by its DevTools protocol over pipes. Pictures of what it saw lie in
//! `target/tmp/monitor-*.png`.

mod chromium;
mod page;
mod live;
