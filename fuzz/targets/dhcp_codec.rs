//! DHCP packets as the server reads them: any bytes decode or are refused, and what was decoded encodes to
//! something that decodes.
#![no_main]

use libfuzzer_sys::fuzz_target;

use bessemer_pxe::dhcp::codec;

fuzz_target!(|data: &[u8]| {
    let Ok(packet) = codec::decode(data) else { return };
    let _ = (packet.message_type(), packet.mac(), packet.vendor_class(), packet.is_ipxe(), packet.uuid());
    let _ = (packet.architectures(), packet.server_id(), packet.requested_addr(), packet.asks_for(67), packet.max_reply());
    for limit in [0, 576, 1472, codec::MAX_PACKET] {
        let bytes = packet.encode(limit);
        assert!(codec::decode(&bytes).is_ok(), "an encoded packet is not read back");
    }
});
