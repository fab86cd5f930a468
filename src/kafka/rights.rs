//! What a user may do with something at the broker, by the numbers that Kafka's protocol has for it.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Read = 3,
    Write = 4,
    DescribeConfigs = 10,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights {
    /// By the number of the operation.
    bits: u32,
}

impl Rights {
    /// A broker may name operations that nobody here knows.
    pub fn of(operations: &[i32]) -> Self {
        let bit = |operation: &i32| u32::try_from(*operation).ok().and_then(|operation| 1_u32.checked_shl(operation));
        Self { bits: operations.iter().filter_map(bit).fold(0, |all, bit| all | bit) }
    }

    pub fn has(self, right: Right) -> bool {
        self.bits >> right as u32 & 1 == 1
    }
}
