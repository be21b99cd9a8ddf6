import DICOM
import Foundation
import TestSupport
import Testing

/// Damaged and hostile files end in a typed error or the right picture: no crash, no hang, no wrong picture. That they
/// allocate little is what the fuzzer checks with the same files (Fuzz/).
@Suite struct HostileFileTests {
    struct HostileFile: CustomTestStringConvertible {
        let name: String
        let what: String
        let expected: String
        var testDescription: String { name }
    }

    static let files: [HostileFile] = {
        let manifest = (try? String(contentsOfFile: TestData.path("hostile_malformed/manifest.csv"), encoding: .utf8)) ?? ""
        return manifest.split(whereSeparator: \.isNewline).dropFirst().compactMap { line in
            guard let first = line.firstIndex(of: ",") else { return nil }
            let name = String(line[..<first])
            let expected = line.hasSuffix("\"") ? "clean error, or incomplete" : String(line[line.index(after: line.lastIndex(of: ",")!)...])
            return HostileFile(name: name, what: String(line[line.index(after: first)...]), expected: expected)
        }
    }()

    /// Damage that no reader can see: the changed bytes are another valid picture, in codings without any check sum.
    static let undetectable: [String: String] = [
        "143_rle_flip_1.dcm": "literal run", "145_rle_flip_3.dcm": "literal run", "147_rle_flip_5.dcm": "literal run",
        "161_j2k_flip_0.dcm": "code-block bytes", "162_j2k_flip_1.dcm": "code-block bytes", "163_j2k_flip_2.dcm": "code-block bytes",
        "164_j2k_flip_3.dcm": "code-block bytes", "165_j2k_flip_4.dcm": "code-block bytes", "166_j2k_flip_5.dcm": "code-block bytes",
        "170_j2k_head_3.dcm": "code-block bytes",
        "277_rtdose_flip_1.dcm": "native samples", "278_rtdose_flip_2.dcm": "native samples", "279_liver_1frame_flip_0.dcm": "native samples",
    ]

    /// The undamaged file that this one was made of.
    private func original(of file: HostileFile) throws -> String {
        let names = ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "SC_rgb_jpeg_gdcm", "SC_rgb_jpeg_dcmtk", "JPEGLSNearLossless_16", "rtdose", "liver_1frame"]
        let name = names.first { file.what.contains("\($0).dcm") } ?? "MR_small"
        for folder in ["test_files", "data_store"] where TestData.has("codecs_pydicom/\(folder)/\(name).dcm") { return TestData.path("codecs_pydicom/\(folder)/\(name).dcm") }
        throw DICOMError(code: "missing", message: name)
    }

    private func samples(_ path: String) throws(DICOMError) -> [UInt8] {
        let dataSet = try DataSet(path: path)
        _ = dataSet.string(.patientName)
        _ = try dataSet.json()
        let image = try dataSet.imageDescription()
        var samples: [UInt8] = []
        for index in 0..<image.frames { samples += try dataSet.frame(index) }
        return samples
    }

    @Test(.enabled(if: TestData.has("hostile_malformed")), .timeLimit(.minutes(1)), arguments: files)
    func endsInATypedErrorOrTheRightPicture(_ file: HostileFile) throws {
        do {
            let decoded = try samples(TestData.path("hostile_malformed/\(file.name)"))
            #expect(!file.expected.hasPrefix("clean error") || file.expected.hasSuffix("incomplete"), "\(file.what)")
            if Self.undetectable[file.name] == nil {
                #expect(decoded == (try samples(try original(of: file))), "a wrong picture without an error: \(file.what)")
            }
        } catch let error as DICOMError {
            #expect(Self.undetectable[file.name] == nil)
            #expect(!error.code.isEmpty && error.message.hasSuffix("."), "\(error)")
        }
    }

    @Test(.timeLimit(.minutes(1))) func zerosInTheMiddleAreRefusedAtOnce() {
        let head = EncapsulationTests.file("1.2.840.10008.1.2", .init(), pixels: [])
        // As implicit VR, the body of that file is damaged anyway: only its meta information is used here.
        let meta = 132 + 12 + Int(head[140]) + Int(head[141]) << 8
        let bytes = Array(head[..<meta]) + [UInt8](repeating: 0, count: 8 << 20) + [8, 0, 5, 0, 0, 0, 0, 0]
        #expect { try DataSet(bytes: bytes) } throws: { ($0 as? DICOMError)?.code == "malformed" }
        // Zeros up to the end are padding.
        #expect(throws: Never.self) { try DataSet(bytes: Array(bytes.dropLast(8))) }
    }

    @Test(.enabled(if: TestData.has("hostile_malformed"))) func allHostileFilesAreRead() {
        #expect(Self.files.count == 290)
    }
}
