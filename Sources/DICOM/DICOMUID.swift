import Foundation

/// Making unique identifiers without a registered root (PS3.5 B.2: 2.25 and a 128-bit number).
public enum DICOMUID {
    /// Implementation Class UID of everything that Tomos writes.
    public static let implementationClass = derived(from: "Tomos")

    /// A new identifier that nothing else has.
    public static func random() -> String {
        let uuid = UUID().uuid
        return "2.25." + withUnsafeBytes(of: uuid) { String(UInt128(bigEndian: $0.loadUnaligned(as: UInt128.self))) }
    }

    /// The same identifier for the same name, for objects that are generated deterministically.
    public static func derived(from name: String) -> String {
        // Two FNV-1a hashes (Fowler, Noll, Vo) with different offsets, mixed, marked as a UUID of version 8.
        func hash(_ offset: UInt64) -> UInt64 {
            var hash = offset
            for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
            hash = (hash ^ (hash >> 30)) &* 0xBF58_476D_1CE4_E5B9
            hash = (hash ^ (hash >> 27)) &* 0x94D0_49BB_1331_11EB
            return hash ^ (hash >> 31)
        }
        let high = hash(0xCBF2_9CE4_8422_2325) & ~0xF000 | 0x8000
        let low = hash(0x8422_2325_CBF2_9CE4) & ~(3 << 62) | 2 << 62
        return "2.25." + String(UInt128(high) << 64 | UInt128(low))
    }
}

/// SOP classes that Tomos reads specially or writes (PS3.4 B.5).
public enum SOPClass {
    public static let ctImage = "1.2.840.10008.5.1.4.1.1.2"
    public static let enhancedCTImage = "1.2.840.10008.5.1.4.1.1.2.1"
    public static let mrImage = "1.2.840.10008.5.1.4.1.1.4"
    public static let enhancedMRImage = "1.2.840.10008.5.1.4.1.1.4.1"
    public static let petImage = "1.2.840.10008.5.1.4.1.1.128"
    public static let enhancedPETImage = "1.2.840.10008.5.1.4.1.1.130"
    public static let nuclearMedicineImage = "1.2.840.10008.5.1.4.1.1.20"
    public static let secondaryCapture = "1.2.840.10008.5.1.4.1.1.7"
    public static let multiframeTrueColorSecondaryCapture = "1.2.840.10008.5.1.4.1.1.7.4"
    public static let segmentation = "1.2.840.10008.5.1.4.1.1.66.4"
    public static let labelMapSegmentation = "1.2.840.10008.5.1.4.1.1.66.7"
    public static let rtStructureSet = "1.2.840.10008.5.1.4.1.1.481.3"
    public static let rtDose = "1.2.840.10008.5.1.4.1.1.481.2"
    public static let realWorldValueMapping = "1.2.840.10008.5.1.4.1.1.67"
    public static let mediaStorageDirectory = "1.2.840.10008.1.3.10"
}
