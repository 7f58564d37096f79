//! The commands that read and copy the store.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, bail};

use super::{AuditCommand, print_line};
use crate::room::Now;
use crate::store::{self, audit};

pub(super) fn audit(store: &Path, command: &AuditCommand) -> anyhow::Result<()> {
    let connection = read(store)?;
    match command {
        AuditCommand::Verify => {
            let verified = audit::verify(&connection)?;
            let head: String = verified
                .head
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            print_line(&format!("{} entries verify; head {head}", verified.entries));
        }
        AuditCommand::Export => audit::export(&connection, &mut std::io::stdout().lock())?,
    }
    Ok(())
}

pub(super) fn usage(store: &Path, by_room: bool, csv: bool) -> anyhow::Result<()> {
    let usages = store::usage::months(&read(store)?, by_room, Now::read().unix_ms())?;
    let mut out = std::io::stdout().lock();
    if csv {
        store::usage::write_csv(&usages, &mut out)?;
    } else {
        writeln!(out, "{}", serde_json::to_string_pretty(&usages)?)?;
    }
    Ok(())
}

pub(super) fn forget(store: &Path, identity: &str) -> anyhow::Result<()> {
    let count = store::usage::forget_person(&mut read(store)?, identity)?;
    print_line(&format!("deleted from {count} entries"));
    Ok(())
}

pub(super) fn backup(store: &Path, to: &Path) -> anyhow::Result<()> {
    store::backup(store, to).with_context(|| format!("cannot copy to {}", to.display()))?;
    print_line(&format!("copied to {}", to.display()));
    Ok(())
}

pub(super) fn restore(store: &Path, from: &Path) -> anyhow::Result<()> {
    audit::verify(&read(from)?).with_context(|| format!("{} is not used", from.display()))?;
    if store.exists() {
        bail!(
            "{} exists: stop the server, and move it and its `-wal` away first",
            store.display()
        );
    }
    store::backup(from, store)?;
    print_line(&format!("restored to {}", store.display()));
    Ok(())
}

fn read(store: &Path) -> anyhow::Result<rusqlite::Connection> {
    store::read_file(store).with_context(|| format!("cannot read {}", store.display()))
}
