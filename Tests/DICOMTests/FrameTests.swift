import DICOM
import Foundation
import TestSupport
import Testing

@Suite struct FrameTests {
    @Test(.enabled(if: TestData.has("codecs_ct_reference"))) func nativeFrameIsReadFromTheFileAsItIs() throws {
        let dataSet = try DataSet(path: TestData.path("codecs_ct_reference/CTImage.dcm"))
        let description = try dataSet.imageDescription()
        #expect(description.rows == 512 && description.columns == 512 && description.isSigned)
        #expect(sha256(try dataSet.frame(0)).hasPrefix("1bee432808f49770bbc30d904e3e7440"))
    }

    @Test func bytesThatAreNotDICOMAreRefused() {
        #expect { try DataSet(bytes: [UInt8](repeating: 0x20, count: 4096)) } throws: { ($0 as? DICOMError)?.code == "not-dicom" }
    }
}
