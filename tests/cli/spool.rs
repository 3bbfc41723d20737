//! The flags that say who has an acknowledged event: what cannot be promised is refused before anything is read.

use crate::harness::Dir;

