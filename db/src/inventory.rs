//! Inspection data of nodes.

use bessemer_model::ids::NodeId;

use crate::{
    engine::{
        Conn, Sql,
        sql::{args, statements},
    },
    error::Result,
    store::Store,
    types::Inventory,
};

statements! {
    PUT = Sql::same(
        "INSERT INTO node_inventory (node, inventory, plugin_data) VALUES ($1, $2, $3) \
         ON CONFLICT (node) DO UPDATE SET inventory = excluded.inventory, plugin_data = excluded.plugin_data",
    );
    GET = Sql::same("SELECT inventory, plugin_data FROM node_inventory WHERE node = $1");
    DELETE = Sql::same("DELETE FROM node_inventory WHERE node = $1");
}

impl Store {
    /// Stores the inspection data of a node, in the place of older data.
    ///
    /// # Errors
    /// [`crate::DbError::NotFound`] without that node.
    pub async fn inventory_put(&self, node: NodeId, inventory: Inventory) -> Result<()> {
        let a = args![node, inventory.inventory.to_string(), inventory.plugin_data.to_string()];
        self.execute(PUT, a).await.map(drop).map_err(|e| e.about(node))
    }

    /// The inspection data of a node, if it was inspected.
    ///
    /// # Errors
    /// Of the database only.
    pub async fn inventory_get(&self, node: NodeId) -> Result<Option<Inventory>> {
        let row = self.fetch_one(GET, args![node]).await?;
        row.map(|r| {
            let c = &mut r.cols();
            Ok(Inventory { inventory: c.json("inventory")?, plugin_data: c.json("plugin_data")? })
        })
        .transpose()
    }
}

pub(crate) async fn put(c: &mut Conn, node: NodeId, i: &Inventory) -> Result<()> {
    c.execute(PUT, args![node, i.inventory.to_string(), i.plugin_data.to_string()]).await.map(drop)
}

pub(crate) async fn delete(c: &mut Conn, node: NodeId) -> Result<()> {
    c.execute(DELETE, args![node]).await.map(drop)
}
