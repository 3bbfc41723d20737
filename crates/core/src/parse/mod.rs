//! Readers of small notations, and text for messages and terminals. No I/O.
//!
//! ```text
//! bytes of a file or a message ─► bytes: a cursor over integers, varints and texts of a fixed layout
//! NAME=VALUE&…  of a URI       ─► query: the path and the options; percent-encoding
//! 64KiB                        ─► size: a number of bytes
//! bytes                        ─► hex: their hexadecimal digits
//! a long text                  ─► excerpt: the part of it that a message shows
//! a name that does not exist   ─► nearest: the known name that was probably meant
//! text of data                 ─► printable: the same text, unable to control a terminal
//! HOST:PORT                    ─► port: whether the port exists
//! a name in a command          ─► shell: the same name as one word of a shell
//! stages of a pipeline         ─► pipeline: the words of each, as a shell reads them
//! ```

pub mod bytes;
pub mod excerpt;
pub mod hex;
pub mod nearest;
pub mod pipeline;
pub mod port;
pub mod printable;
pub mod query;
pub mod shell;
pub mod size;
