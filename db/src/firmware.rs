//! BIOS settings and firmware components of nodes (`api.md` section 3.7).

use std::collections::HashMap;

use bessemer_model::{
    clock::Timestamp,
    firmware::{BiosSetting, FirmwareComponent, StoredBiosSetting, StoredFirmware},
    ids::NodeId,
};

use crate::{
    engine::{
        Arg, Conn, Row, Sql,
        row::to_json,
        sql::{args, statements},
    },
    error::{DbError, Entity, Result},
    store::Store,
};

macro_rules! bios_select {
    ($rest:literal) => {
        concat!(
            "SELECT name, created_at, updated_at, value, attribute_type, allowable_values, lower_bound, upper_bound, min_length, \
             max_length, read_only, reset_required, is_unique FROM bios_settings ",
            $rest
        )
    };
}

statements! {
    BIOS_LIST = Sql::same(bios_select!("WHERE node = $1 ORDER BY name"));
    BIOS_GET = Sql::same(bios_select!("WHERE node = $1 AND name = $2"));
    BIOS_PUT = Sql::same(
        "INSERT INTO bios_settings (node, name, created_at, value, attribute_type, allowable_values, lower_bound, upper_bound, \
         min_length, max_length, read_only, reset_required, is_unique) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (node, name) DO UPDATE SET updated_at = excluded.created_at, value = excluded.value, \
         attribute_type = excluded.attribute_type, allowable_values = excluded.allowable_values, lower_bound = excluded.lower_bound, \
         upper_bound = excluded.upper_bound, min_length = excluded.min_length, max_length = excluded.max_length, \
         read_only = excluded.read_only, reset_required = excluded.reset_required, is_unique = excluded.is_unique",
    );
    BIOS_DELETE = Sql::same("DELETE FROM bios_settings WHERE node = $1 AND name = $2");
    FIRMWARE_LIST = Sql::same(
        "SELECT component, created_at, updated_at, initial_version, current_version, last_version_flashed, vendor, model, serial_number \
         FROM firmware_components WHERE node = $1 ORDER BY component",
    );
    FIRMWARE_INSERT = Sql::same(
        "INSERT INTO firmware_components (node, component, created_at, initial_version, current_version, vendor, model, serial_number) \
         VALUES ($1, $2, $3, $4, $4, $5, $6, $7)",
    );
    FIRMWARE_UPDATE = Sql::same(
        "UPDATE firmware_components SET updated_at = $3, current_version = $4, last_version_flashed = $5, vendor = $6, model = $7, \
         serial_number = $8 WHERE node = $1 AND component = $2",
    );
}

impl Store {
    /// BIOS settings of a node, by name.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn bios_list(&self, node: NodeId) -> Result<Vec<StoredBiosSetting>> {
        self.fetch(BIOS_LIST, args![node]).await?.iter().map(bios_from).collect()
    }

    /// A BIOS setting of a node.
    ///
    /// # Errors
    /// [`DbError::NotFound`].
    pub async fn bios_get(&self, node: NodeId, name: &str) -> Result<StoredBiosSetting> {
        let row = self.fetch_one(BIOS_GET, args![node, name]).await?;
        row.map(|r| bios_from(&r)).ok_or_else(|| DbError::not_found(Entity::BiosSetting, name))?
    }

    /// Firmware components of a node, by name.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn firmware_list(&self, node: NodeId) -> Result<Vec<StoredFirmware>> {
        self.fetch(FIRMWARE_LIST, args![node]).await?.iter().map(firmware_from).collect()
    }
}

fn bios_from(row: &Row) -> Result<StoredBiosSetting> {
    let c = &mut row.cols();
    let (name, created_at, updated_at) = (c.text()?, c.time()?, c.opt_time()?);
    let setting = BiosSetting {
        name,
        value: c.opt_text()?,
        attribute_type: c.opt_text()?,
        allowable_values: c.json("allowable_values")?,
        lower_bound: c.opt_int()?,
        upper_bound: c.opt_int()?,
        min_length: c.opt_int()?,
        max_length: c.opt_int()?,
        read_only: c.opt_bool()?,
        reset_required: c.opt_bool()?,
        unique: c.opt_bool()?,
    };
    Ok(StoredBiosSetting { created_at, updated_at, setting })
}

fn bios_args(node: NodeId, s: &BiosSetting, now: Timestamp) -> Result<Vec<Arg>> {
    Ok(args![
        node,
        &s.name,
        now,
        &s.value,
        &s.attribute_type,
        to_json("allowable_values", &s.allowable_values)?,
        s.lower_bound,
        s.upper_bound,
        s.min_length,
        s.max_length,
        s.read_only,
        s.reset_required,
        s.unique,
    ])
}

fn firmware_from(row: &Row) -> Result<StoredFirmware> {
    let c = &mut row.cols();
    Ok(StoredFirmware {
        component: c.text()?,
        created_at: c.time()?,
        updated_at: c.opt_time()?,
        initial_version: c.text()?,
        current_version: c.opt_text()?,
        last_version_flashed: c.opt_text()?,
        vendor: c.opt_text()?,
        model: c.opt_text()?,
        serial_number: c.opt_text()?,
    })
}

/// Makes the stored settings of a node these; what is the same is left alone.
pub(crate) async fn bios_sync(c: &mut Conn, node: NodeId, settings: &[BiosSetting], now: Timestamp) -> Result<()> {
    let rows = c.rows(BIOS_LIST, args![node]).await?;
    let stored = rows.iter().map(bios_from).collect::<Result<Vec<_>>>()?;
    let mut gone: HashMap<&str, &BiosSetting> = stored.iter().map(|s| (s.setting.name.as_str(), &s.setting)).collect();
    for s in settings {
        if gone.remove(s.name.as_str()) != Some(s) {
            c.execute(BIOS_PUT, bios_args(node, s, now)?).await.map_err(|e| e.about_node(node))?;
        }
    }
    for name in gone.into_keys() {
        c.execute(BIOS_DELETE, args![node, name]).await?;
    }
    Ok(())
}

/// Notes the versions that a machine runs. The first one seen stays; a version that differs from the last one was flashed meanwhile.
/// Components that are not told any more stay.
pub(crate) async fn firmware_sync(c: &mut Conn, node: NodeId, found: &[FirmwareComponent], now: Timestamp) -> Result<()> {
    let rows = c.rows(FIRMWARE_LIST, args![node]).await?;
    let stored = rows.iter().map(firmware_from).collect::<Result<Vec<_>>>()?;
    for f in found {
        let Some(s) = stored.iter().find(|s| s.component == f.component) else {
            let a = args![node, &f.component, now, &f.version, &f.vendor, &f.model, &f.serial_number];
            c.execute(FIRMWARE_INSERT, a).await.map_err(|e| e.about_node(node))?;
            continue;
        };
        let flashed = s.current_version.as_ref() != Some(&f.version);
        if !flashed && (&s.vendor, &s.model, &s.serial_number) == (&f.vendor, &f.model, &f.serial_number) {
            continue;
        }
        let last = if flashed { Some(f.version.clone()) } else { s.last_version_flashed.clone() };
        c.execute(FIRMWARE_UPDATE, args![node, &f.component, now, &f.version, last, &f.vendor, &f.model, &f.serial_number]).await?;
    }
    Ok(())
}
