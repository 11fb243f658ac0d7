//! Answers of DHCP servers as the agent reads them.
#![no_main]

use libfuzzer_sys::fuzz_target;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0, 1];

fuzz_target!(|data: &[u8]| {
    let _ = bessemer_agent::dhcp::decode(data, 7, MAC);
    // The same options behind a header that fits.
    let mut answer = vec![0; 236];
    answer[0] = 2;
    answer[4..8].copy_from_slice(&7_u32.to_be_bytes());
    answer[16..20].copy_from_slice(&[172, 30, 0, 150]);
    answer[28..34].copy_from_slice(&MAC);
    answer.extend([99, 130, 83, 99, 53, 1, 5]);
    answer.extend(data);
    if let Some((_, lease)) = bessemer_agent::dhcp::decode(&answer, 7, MAC) {
        assert!(lease.renew <= lease.rebind && lease.rebind <= lease.lease, "{lease:?}");
    }
});
