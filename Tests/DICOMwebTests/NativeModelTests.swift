import DICOM
@testable import DICOMweb
import Foundation
import TestSupport
import Testing

/// Metadata as XML, read.
@Suite struct NativeModelTests {
    private var attributes: Attributes {
        var a = Attributes()
        a.set(.specificCharacterSet, text: "ISO_IR 192")
        a.set(.patientName, .names(["Müller^Anna^^Dr=山田^太郎=やまだ^たろう"]))
        a.set(.patientID, text: "a & b < c > \"d\" 'e'")
        a.set(.rows, .numbers([512]))
        a.set(Tag(0x0020, 0x0032), .texts(["-1.5", "2", "3e-4"]), "DS")
        a.set(Tag(0x0070, 0x1603), .numbers([1.25, -2, 3]), "FD")
        a.set(.studyDate, .none)
        a.set(Tag(0x0029, 0x1010), .inline([0, 1, 255]), "OB")
        a.set(.pixelData, .bulk("http://x/1?a=b&c=d"), "OW")
        var item = Attributes()
        item.set(.referencedSOPInstanceUID, text: "1.2.3")
        a.set(.referencedImageSequence, .items([item, Attributes()]), "SQ")
        return a
    }

    @Test func whatIsWrittenIsReadAgain() throws {
        let a = attributes
        #expect(try Attributes(nativeModel: Array(a.xml.utf8)).json == a.json)
    }

    @Test func commentsReferencesAndOrderDoNotMatter() throws {
        let text = """
            \u{FEFF}<?xml version="1.0"?><!-- <DicomAttribute> -->
            <NativeDicomModel><DicomAttribute vr='LO' tag="00100020" keyword="PatientID"><Value number="2"><![CDATA[<two>]]></Value><Value number="1">on&#101;&#x21;</Value></DicomAttribute>
            <DicomAttribute tag="00280010" vr="US"><Value number="1"> 7 </Value></DicomAttribute><Other/></NativeDicomModel>
            """
        #expect(try Attributes(nativeModel: Array(text.utf8)).json == "{\"00100020\":{\"vr\":\"LO\",\"Value\":[\"one!\",\"<two>\"]},\"00280010\":{\"vr\":\"US\",\"Value\":[7]}}")
    }

    @Test(arguments: ["", "x", "<a>", "</NativeDicomModel>", "<NativeDicomModel>", "<NativeDicomModel></Other>", "<NativeDicomModel/><NativeDicomModel/>", "<Other/>", "<NativeDicomModel a=b/>", "<NativeDicomModel>&amp</NativeDicomModel>",
                      "<NativeDicomModel>&bomb;</NativeDicomModel>", "<!DOCTYPE x [<!ENTITY bomb \"x\">]><NativeDicomModel/>", "<NativeDicomModel>&#xD800;</NativeDicomModel>", "x<NativeDicomModel/>", "<NativeDicomModel/>x", "<NativeDicomModel", "<NativeDicomModel><!-- </NativeDicomModel>"])
    func whatIsNoDocumentIsRefused(_ text: String) {
        #expect(throws: WebError.self) { try Attributes(nativeModel: Array(text.utf8)) }
    }

    @Test func damagedDocumentsAreRefusedOrReadNeverMore() {
        var random = SeededGenerator(seed: 8)
        let good = Array(attributes.xml.utf8)
        for _ in 0..<3000 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.remove(at: Int.random(in: bytes.indices, using: &random))
                default: bytes.insert("<>&\"'/=;! "[Int.random(in: 0..<10, using: &random)], at: Int.random(in: bytes.indices, using: &random))
                }
            }
            _ = try? Attributes(nativeModel: bytes).object([:])
        }
        let deep = String(repeating: "<a>", count: 100_000)
        #expect(throws: WebError.self) { try Attributes(nativeModel: Array(deep.utf8)) }
    }
}

private extension String {
    subscript(_ i: Int) -> UInt8 { Array(utf8)[i] }
}
