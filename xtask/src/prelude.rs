//! What nearly every command needs: paths, errors, and other programs.

pub(crate) use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub(crate) use anyhow::{Context, Result, anyhow, bail, ensure};

pub(crate) use crate::{
    cache, files,
    run::{self, CARGO, Run, cmd, progress},
    toolchain::{self, at},
};
