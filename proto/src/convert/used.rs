//! What clients did.

use arustio_types::used::{UFS_OPERATIONS, UfsUsed, Used};

use super::ConvertError;
use crate::meta::v1 as wire;

/// Operations of one message, those of newer clients included; what is beyond is left out.
const MOST_OPERATIONS: usize = 64;

impl From<&Used> for wire::Used {
    fn from(used: &Used) -> Self {
        let named = UFS_OPERATIONS.iter().zip(&used.ufs);
        let counted = named.filter(|(_, one)| **one != UfsUsed::default());
        Self {
            cache_bytes: used.cache_bytes,
            ufs: counted
                .map(|(operation, one)| wire::UfsUsed {
                    operation: (*operation).to_owned(),
                    requests: one.requests,
                    errors: one.errors,
                    bytes_in: one.bytes_in,
                    bytes_out: one.bytes_out,
                })
                .collect(),
        }
    }
}

impl TryFrom<wire::Used> for Used {
    type Error = ConvertError;
    fn try_from(used: wire::Used) -> Result<Self, ConvertError> {
        let mut sum = Self {
            cache_bytes: used.cache_bytes,
            ..Self::default()
        };
        for one in used.ufs.into_iter().take(MOST_OPERATIONS) {
            let place = Self::place(&one.operation);
            sum.ufs[place] = sum.ufs[place].plus(&UfsUsed {
                requests: one.requests,
                errors: one.errors,
                bytes_in: one.bytes_in,
                bytes_out: one.bytes_out,
            });
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_round_trips_and_unknown_operations_are_others() {
        let mut used = Used {
            cache_bytes: 5,
            ..Used::default()
        };
        used.ufs[Used::place("read")].bytes_in = 3;
        used.ufs[Used::place("list")].requests = 1;
        let mut sent = wire::Used::from(&used);
        assert_eq!(sent.ufs.len(), 2);
        assert_eq!(Used::try_from(sent.clone()).unwrap(), used);
        for operation in ["truncate", "append"] {
            sent.ufs.push(wire::UfsUsed {
                operation: operation.to_owned(),
                requests: 2,
                ..wire::UfsUsed::default()
            });
        }
        let read = Used::try_from(sent).unwrap();
        assert_eq!(read.ufs[Used::place("other")].requests, 4);
    }
}
