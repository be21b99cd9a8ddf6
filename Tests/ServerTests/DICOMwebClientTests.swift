import Foundation
import TestSupport
import Testing

/// DICOMweb from outside: dicomweb-client, pydicom, highdicom and plain HTTP against the built executable.
@Suite(.serialized, .enabled(if: TestData.has(RunningServer.dataSet), "needs the shared test data"),
       .enabled(if: RunningServer.hasWebPython, "needs the Python packages of Tests/requirements.txt"))
struct DICOMwebClientTests {
    private func holds(_ scenario: String) async throws {
        let arguments = [TestData.packageRoot.appending(path: "Tests/ServerTests/Python/dicomweb.py").path, scenario, "--tomos", RunningServer.executable, "--test-data", TestData.folder.path]
        let (status, output) = try await RunningServer.ran(TestData.python, arguments)
        #expect(status == 0, "\(output)")
    }

    @Test func whatDICOMwebClientStoresComesBackBitForBit() async throws { try await holds("roundtrip") }
    @Test func everyTransferSyntaxIsGivenAsStoredAndDecoded() async throws { try await holds("compressed") }
    @Test func searchesMatchPageAndWarn() async throws { try await holds("search") }
    @Test func conditionsRangesCompressionAndProblemsAreThoseOfHTTP() async throws { try await holds("http") }
    @Test func storedInstancesSucceedAndFailOneByOne() async throws { try await holds("failures") }
    @Test func metadataAndBulkDataApartAreStored() async throws { try await holds("split") }
    @Test func objectsOfHighdicomAreStoredAndGivenBack() async throws { try await holds("kinds") }
    @Test func presentationStatesOfOthersShowWhatTheySay() async throws { try await holds("states") }
    @Test func theRequestsOfOHIFAreAnswered() async throws { try await holds("ohif") }
    @Test func renderedVolumesAreThePixelsOfTomosRender() async throws { try await holds("pixels") }
    @Test func aThousandInstancesAndAGigabytePassInBoundedMemory() async throws { try await holds("large") }
    @Test func theArchiveBehindIsListedForThePage() async throws { try await holds("beyond") }
    @Test func theOpenAPIDocumentIsTrue() async throws { try await holds("openapi") }
}

/// A real Orthanc and DCMTK's tools, both ways.
@Suite(.serialized, .enabled(if: TestData.has(RunningServer.dataSet), "needs the shared test data"),
       .enabled(if: RunningServer.hasWebPython, "needs the Python packages of Tests/requirements.txt"),
       .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/sbin/Orthanc"), "needs Debian's orthanc and orthanc-dicomweb"))
struct OrthancTests {
    private func holds(_ scenario: String) async throws {
        let arguments = [TestData.packageRoot.appending(path: "Tests/ServerTests/Python/orthanc.py").path, scenario, "--tomos", RunningServer.executable, "--test-data", TestData.folder.path]
        let (status, output) = try await RunningServer.ran(TestData.python, arguments)
        #expect(status == 0, "\(output)")
    }

    @Test func tomosStandsBeforeOrthancByDICOMweb() async throws { try await holds("before_web") }
    @Test func tomosStandsBeforeOrthancOnTheDICOMNetwork() async throws { try await holds("before_dicom") }
    @Test func whatIsMissingOfAStudyComesFromOrthanc() async throws { try await holds("partial") }
    @Test func aSeriesOnASlowLineOpensWithItsMiddleSlice() async throws { try await holds("arriving") }
    @Test func orthancStoresSearchesAndRetrievesFromTomos() async throws { try await holds("behind") }
    @Test func theToolsOfDCMTKTalkToTomos() async throws { try await holds("tools") }
}
